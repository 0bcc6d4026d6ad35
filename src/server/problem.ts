/**
 * Errors that API users see: a typed exception for the code that finds a fault, and its RFC 9457 document. The codes are
 * in problem-codes.ts; the error handler that turns everything else into a problem is in error-handler.ts.
 */
import type { FastifyReply } from 'fastify';
import { PROBLEMS, type ProblemCode } from './problem-codes.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** One fault of a request: where it is (JSON Pointer into the body, or `?name` and the like) and what was expected. */
export interface Fault {
  readonly pointer: string;
  readonly detail: string;
  readonly expected?: string;
  /** Kind of fault, for programs; topology documents have it. */
  readonly code?: string;
  /** Where the text itself could not be read; both from 1. */
  readonly line?: number;
  readonly column?: number;
}

export interface ProblemDocument {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ProblemCode;
  readonly detail: string;
  readonly instance: string;
  readonly errors?: readonly Fault[];
  readonly oldestFrame?: number;
}

export interface ProblemExtras {
  readonly errors?: readonly Fault[];
  /** Oldest frame id that is still held, for RINGSIDE_E_GONE of a journey. */
  readonly oldestFrame?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Thrown by anything that answers a request; becomes the response. */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly extras: ProblemExtras;
  constructor(code: ProblemCode, detail: string, extras: ProblemExtras = {}) {
    super(detail);
    this.code = code;
    this.extras = extras;
  }
  get status(): number {
    return PROBLEMS[this.code].status;
  }
  document(instance: string): ProblemDocument {
    const { errors, oldestFrame } = this.extras;
    return {
      type: problemType(this.code),
      title: PROBLEMS[this.code].title,
      status: this.status,
      code: this.code,
      detail: this.message,
      instance,
      ...(errors === undefined ? {} : { errors }),
      ...(oldestFrame === undefined ? {} : { oldestFrame }),
    };
  }
}

export function problemType(code: ProblemCode): string {
  return `/docs/problems#${code}`;
}

/** A fault at one place of the body. */
export function invalid(pointer: string, detail: string, expected?: string): Problem {
  return new Problem('RINGSIDE_E_VALIDATION', detail, {
    errors: [{ pointer, detail, ...(expected === undefined ? {} : { expected }) }],
  });
}

export function notFound(what: string): Problem {
  return new Problem('RINGSIDE_E_NOT_FOUND', what);
}

export function sendProblem(reply: FastifyReply, problem: Problem, instance: string): FastifyReply {
  reply.code(problem.status).headers({ ...problem.extras.headers });
  return reply.type(PROBLEM_TYPE).send(JSON.stringify(problem.document(instance)));
}
