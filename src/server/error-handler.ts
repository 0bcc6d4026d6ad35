/** Everything that goes wrong with a request, as a problem document. Only faults of our own become a 500, and are printed. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { engineProblem } from './engine-problem.ts';
import { EngineFault } from './engine-thread.ts';
import { Problem, sendProblem } from './problem.ts';
import { PROBLEMS, type ProblemCode } from './problem-codes.ts';

/** Codes of Fastify and of Node's parser whose status alone does not say which problem it is. */
const BY_CODE: Readonly<Record<string, ProblemCode>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'RINGSIDE_E_MEDIA_TYPE',
  FST_ERR_CTP_BODY_TOO_LARGE: 'RINGSIDE_E_TOO_LARGE',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'RINGSIDE_E_SYNTAX',
  FST_ERR_CTP_INVALID_JSON_BODY: 'RINGSIDE_E_SYNTAX',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'RINGSIDE_E_SYNTAX',
  FST_ERR_MAX_PARAM_LENGTH: 'RINGSIDE_E_URI_TOO_LONG',
  HPE_HEADER_OVERFLOW: 'RINGSIDE_E_HEADERS_TOO_LARGE',
};
const BY_STATUS: Readonly<Record<number, ProblemCode>> = {
  404: 'RINGSIDE_E_NOT_FOUND',
  405: 'RINGSIDE_E_METHOD',
  413: 'RINGSIDE_E_TOO_LARGE',
  414: 'RINGSIDE_E_URI_TOO_LONG',
  415: 'RINGSIDE_E_MEDIA_TYPE',
  426: 'RINGSIDE_E_UPGRADE',
  429: 'RINGSIDE_E_TOO_MANY',
  431: 'RINGSIDE_E_HEADERS_TOO_LARGE',
  503: 'RINGSIDE_E_UNAVAILABLE',
};

export function toProblem(error: Partial<FastifyError> & Error): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof EngineFault) return engineProblem(error);
  const status = error.statusCode ?? 500;
  if (error instanceof SyntaxError && status === 400) return new Problem('RINGSIDE_E_SYNTAX', error.message);
  const code = BY_CODE[error.code ?? ''] ?? BY_STATUS[status];
  if (code !== undefined) return new Problem(code, error.message);
  if (status >= 400 && status < 500) return new Problem('RINGSIDE_E_REQUEST', error.message);
  console.error(error);
  return new Problem('RINGSIDE_E_INTERNAL', 'The server made a mistake; its log has the details');
}

export function handleError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = error instanceof EngineFault ? engineProblem(error, request.query) : toProblem(error);
  return sendProblem(reply, problem, request.url);
}

/** The answer to what is not HTTP at all: there is no request to answer, only a socket. */
export function rawProblem(code: ProblemCode, detail: string): string {
  const body = JSON.stringify(new Problem(code, detail).document(''));
  return (
    `HTTP/1.1 ${PROBLEMS[code].status} ${PROBLEMS[code].title}\r\ncontent-type: application/problem+json\r\n` +
    `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`
  );
}
