/** PostRouting: where sources are translated (hairpin, gateway to remote endpoint). Every packet passes as it is. */
export const name = 'PostRouting';
export function process(): void {}
