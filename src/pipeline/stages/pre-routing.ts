/** PreRouting: where services choose an endpoint. Nothing is translated yet: every packet passes as it is. */
export const name = 'PreRouting';
export function process(): void {}
