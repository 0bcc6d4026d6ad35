/** The problem responses that an operation lists, by code. */
import type { TSchema } from 'typebox';
import { PROBLEM_TYPE } from './problem.ts';
import { PROBLEMS, type ProblemCode } from './problem-codes.ts';
import { ProblemSchema } from './schemas/common.ts';
import { ref } from './schemas/reference.ts';

interface ProblemResponse {
  description: string;
  content: Record<string, { schema: TSchema }>;
}
type ProblemResponses = Partial<
  Record<
    400 | 401 | 403 | 404 | 405 | 406 | 409 | 410 | 412 | 413 | 415 | 416 | 421 | 422 | 429 | 503 | 507,
    ProblemResponse
  >
>;

/** Every operation can be refused by these. */
const ALWAYS: readonly ProblemCode[] = [
  'RINGSIDE_E_REQUEST',
  'RINGSIDE_E_UNAUTHORIZED',
  'RINGSIDE_E_ORIGIN',
  'RINGSIDE_E_HOST',
  'RINGSIDE_E_UNAVAILABLE',
];

/** Operations with a JSON body can be refused by these, too. */
export const BODY: readonly ProblemCode[] = [
  'RINGSIDE_E_SYNTAX',
  'RINGSIDE_E_TOO_LARGE',
  'RINGSIDE_E_MEDIA_TYPE',
  'RINGSIDE_E_VALIDATION',
];
/** Operations on what is in a world can be refused by these, too. */
export const WORLD: readonly ProblemCode[] = ['RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_CONFLICT', 'RINGSIDE_E_WORLD_FAILED'];

/** Response schemas for the given codes and for those that every operation has. */
export function problems(...codes: ProblemCode[]): ProblemResponses {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of [...ALWAYS, ...codes]) {
    const status = PROBLEMS[code].status;
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const responses: Record<number, ProblemResponse> = {};
  for (const [status, list] of [...byStatus].sort(([a], [b]) => a - b)) {
    const text = list.map((code) => `\`${code}\`: ${PROBLEMS[code].title}.`).join(' ');
    responses[status] = { description: text, content: { [PROBLEM_TYPE]: { schema: ref(ProblemSchema) } } };
  }
  return responses;
}

/** A body that is not JSON: its media type, and what is in it. */
export function media(description: string, types: Record<string, TSchema | object>): ProblemResponse {
  const content = Object.entries(types).map(([type, schema]) => [type, { schema: schema as TSchema }] as const);
  return { description, content: Object.fromEntries(content) };
}
