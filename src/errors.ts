/**
 * Every deliberate error of seine: its code, what a gRPC client, a shell and a retrying caller see of it.
 * A bad packet is not an error but a drop reason (batch/drop-reason.ts); a bug is an assertion.
 */
export const ERRORS = {
  SEINE_ERR_USAGE: { grpc: 'INVALID_ARGUMENT', exit: 2, retry: false },
  SEINE_ERR_CONFIG_INVALID: { grpc: 'INVALID_ARGUMENT', exit: 2, retry: false },
  SEINE_ERR_OBJECT_INVALID: { grpc: 'INVALID_ARGUMENT', exit: 2, retry: false },
  SEINE_ERR_POLICY_INVALID: { grpc: 'INVALID_ARGUMENT', exit: 2, retry: false },
  SEINE_ERR_CAPTURE_INVALID: { grpc: 'INVALID_ARGUMENT', exit: 2, retry: false },
  SEINE_ERR_BATCH_INVALID: { grpc: 'INVALID_ARGUMENT', exit: 2, retry: false },
  SEINE_ERR_BATCH_LIMIT: { grpc: 'INVALID_ARGUMENT', exit: 2, retry: false },
  SEINE_ERR_MESSAGE_INVALID: { grpc: 'INVALID_ARGUMENT', exit: 2, retry: false },
  SEINE_ERR_MESSAGE_LIMIT: { grpc: 'RESOURCE_EXHAUSTED', exit: 2, retry: false },
  SEINE_ERR_NOT_FOUND: { grpc: 'NOT_FOUND', exit: 1, retry: false },
  SEINE_ERR_PERMISSION: { grpc: 'PERMISSION_DENIED', exit: 1, retry: false },
  SEINE_ERR_UNIMPLEMENTED: { grpc: 'UNIMPLEMENTED', exit: 1, retry: false },
  SEINE_ERR_ADDRESS_IN_USE: { grpc: 'ALREADY_EXISTS', exit: 1, retry: false },
  SEINE_ERR_UNAVAILABLE: { grpc: 'UNAVAILABLE', exit: 1, retry: true },
  SEINE_ERR_WORKER_LOST: { grpc: 'UNAVAILABLE', exit: 1, retry: true },
  SEINE_ERR_BUSY: { grpc: 'RESOURCE_EXHAUSTED', exit: 1, retry: true },
  SEINE_ERR_CLOSED: { grpc: 'UNAVAILABLE', exit: 1, retry: false },
  SEINE_ERR_IO: { grpc: 'INTERNAL', exit: 1, retry: false },
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** A deliberate error. `message` is one sentence: where, what was found, what would be right. */
export class SeineError extends Error {
  override readonly name = 'SeineError';
  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
  get exitCode(): number {
    return ERRORS[this.code].exit;
  }
  get grpcStatus(): string {
    return ERRORS[this.code].grpc;
  }
}
