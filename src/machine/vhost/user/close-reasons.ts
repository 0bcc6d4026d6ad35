/** Why a vhost-user connection ended, in column `a` of the event and in words. */
export const CLOSE_REASONS = [
  'disconnected',
  'the other side closed',
  'truncated message',
  'malformed header',
  'unknown request',
  'not for a network device',
  'payload size',
  'not negotiated',
  'number of file descriptors',
  'refused',
  'no reply',
  'wrong reply',
  'send failed',
  'late reply',
  'died',
] as const;
export type CloseReason = (typeof CLOSE_REASONS)[number];
export const closeCode = (reason: CloseReason): number => CLOSE_REASONS.indexOf(reason);
