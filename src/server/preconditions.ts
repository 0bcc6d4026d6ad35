/** `If-Match` and `If-None-Match` of requests that change a topology (RFC 9110 section 13.1). */
import type { FastifyRequest } from 'fastify';
import { Problem } from './problem.ts';
import type { Precondition } from './topologies.ts';

export function preconditionOf(request: FastifyRequest): Precondition {
  const ifMatch = request.headers['if-match'];
  const ifNoneMatch = request.headers['if-none-match'];
  return (current) => {
    if (ifMatch !== undefined && !matches(ifMatch, current?.etag)) {
      throw new Problem(
        'RINGSIDE_E_PRECONDITION',
        `If-Match is ${ifMatch}, the topology is at ${current?.etag ?? 'nothing'}`,
      );
    }
    if (ifNoneMatch !== undefined && matches(ifNoneMatch, current?.etag)) {
      throw new Problem('RINGSIDE_E_PRECONDITION', `If-None-Match is ${ifNoneMatch}, the topology exists`);
    }
  };
}

/** `*` matches anything that exists; weak tags never match, the comparison is strong. */
function matches(header: string, etag: string | undefined): boolean {
  if (etag === undefined) return false;
  const tags = header.split(',').map((tag) => tag.trim());
  return tags.includes('*') || tags.includes(etag);
}
