/** Requests that wait for the end of what they show. */
import type { FastifyReply } from 'fastify';

const LONGEST_MS = 300_000;

/** How long such a request waits at most, by its `wait` (WaitQuery), and what ends with its client. */
export function waitOf(
  wait: string | undefined,
  reply: FastifyReply,
): { readonly ms: number; readonly gone: AbortSignal } {
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  return { ms: Math.min(Number((wait ?? '0').replace(/s$/, '')) * 1000, LONGEST_MS), gone: gone.signal };
}
