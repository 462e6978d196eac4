// Why a meeting ended for this person; each reason has its own text (`end.*`).
export const END_REASONS = ['left', 'removed', 'ended', 'duplicate', 'shutdown', 'lost', 'failed'] as const
export type EndReason = (typeof END_REASONS)[number]
