/** Content negotiation: which of the offered media types a request prefers (RFC 9110 section 12.5.1). */
import type { FastifyRequest } from 'fastify';
import { Problem } from './problem.ts';

interface Range {
  readonly type: string;
  readonly quality: number;
}

/** The offer with the highest quality; the first offer wins where they are equal. 406 where none is accepted. */
export function negotiate<const T extends string>(request: FastifyRequest, offers: readonly [T, ...T[]]): T {
  const header = request.headers.accept;
  if (header === undefined || header.trim() === '') return offers[0];
  const ranges = header.split(',').slice(0, 50).map(parseRange);
  let best: T | null = null;
  let bestQuality = 0;
  for (const offer of offers) {
    const quality = qualityOf(offer, ranges);
    if (quality > bestQuality) {
      best = offer;
      bestQuality = quality;
    }
  }
  if (best !== null) return best;
  throw new Problem('RINGSIDE_E_NOT_ACCEPTABLE', `This resource is answered as ${offers.join(' or ')}`);
}

function parseRange(text: string): Range {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const q = parameters.find((parameter) => parameter.startsWith('q='));
  const quality = q === undefined ? 1 : Number(q.slice(2));
  return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 };
}

/** The most specific range that matches decides. */
function qualityOf(offer: string, ranges: readonly Range[]): number {
  const group = `${offer.split('/', 1)[0] ?? ''}/*`;
  for (const wanted of [offer, group, '*/*']) {
    const range = ranges.find((r) => r.type === wanted);
    if (range !== undefined) return range.quality;
  }
  return 0;
}
