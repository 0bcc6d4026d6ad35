/** Fields of requests for TCP and for requests and responses: the schema, which kinds take which, and what the engine is told. */
import { Type } from 'typebox';
import type { CongestionControl } from '../machine/guest/stack/tcp-congestion.ts';
import type { TransactionSpec } from './protocol.ts';
import { oneOf } from './schema-kit.ts';
import { DURATION_PATTERN, type Parsed, parseDuration, parseSize, SIZE_PATTERN } from './units.ts';

/** Kinds of traffic that connections carry; `tcp_stream` is `tcp` by netperf's name. */
export const CONNECTION_KINDS = ['tcp', 'tcp_stream', 'tcp_rr', 'udp_rr'] as const;
export type ConnectionKind = (typeof CONNECTION_KINDS)[number];

/** Transactions where the request says neither how many nor how long. */
const DEFAULT_TRANSACTIONS = 1000;
const SMALLEST_WINDOW = 4096;
const LARGEST_WINDOW = 64 << 20;
/** Transactions under way on one connection. */
const MOST_OUTSTANDING = 64;
const MOST_MESSAGE = 1 << 20;

const message = (what: string) =>
  Type.Optional(
    Type.Unsafe<string | number>({
      anyOf: [
        { type: 'string', pattern: SIZE_PATTERN },
        { type: 'integer', minimum: 1, maximum: MOST_MESSAGE },
      ],
      description: `tcp_rr, udp_rr: bytes of a ${what}, at most 1 MiB; over UDP at most what one frame holds. Default 1.`,
      examples: [1, '1KiB'],
    }),
  );

export const connectionFields = () => ({
  congestion: Type.Optional(
    oneOf(['newreno', 'cubic'], {
      description:
        'TCP: congestion control of the senders. `newreno`: RFC 5681 and RFC 6582. `cubic`: RFC 9438 (default, as in Linux).',
      examples: ['cubic'],
    }),
  ),
  sack: Type.Optional(
    Type.Boolean({
      description: 'TCP: selective acknowledgements (RFC 2018, RFC 6675) are negotiated. Default true.',
      examples: [true],
    }),
  ),
  window: Type.Optional(
    Type.Unsafe<string | number>({
      anyOf: [
        { type: 'string', pattern: SIZE_PATTERN },
        { type: 'integer', minimum: SMALLEST_WINDOW, maximum: LARGEST_WINDOW },
      ],
      description:
        'TCP: size of the socket buffers at both ends: what a sender has under way at most, and what a receiver announces. Default 256 KiB.',
      examples: ['1MiB'],
    }),
  ),
  requestBytes: message('request'),
  responseBytes: message('response'),
  transactions: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1_000_000_000,
      description: `tcp_rr, udp_rr: requests with their responses, of all connections together. Default ${DEFAULT_TRANSACTIONS}.`,
      examples: [10000],
    }),
  ),
  outstanding: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MOST_OUTSTANDING,
      description: 'tcp_rr, udp_rr: requests of a connection that wait for their response at a time. Default 1.',
      examples: [1],
    }),
  ),
  thinkTime: Type.Optional(
    Type.String({
      pattern: DURATION_PATTERN,
      maxLength: 32,
      description: 'tcp_rr, udp_rr: how long a client waits between a response and its next request. Default none.',
      examples: ['50us'],
    }),
  ),
});

/** Fields of connections, as users write them. */
export interface ConnectionBody {
  readonly congestion?: CongestionControl;
  readonly sack?: boolean;
  readonly window?: string | number;
  readonly requestBytes?: string | number;
  readonly responseBytes?: string | number;
  readonly transactions?: number;
  readonly outstanding?: number;
  readonly thinkTime?: string;
}
const TCP_FIELDS = ['congestion', 'sack', 'window'] as const;
const TRANSACTION_FIELDS = ['requestBytes', 'responseBytes', 'transactions', 'outstanding', 'thinkTime'] as const;

export interface BadField {
  readonly pointer: string;
  readonly detail: string;
  readonly expected: string;
}

/** What the engine is told of TCP and of transactions. */
export interface ConnectionTerms {
  readonly congestion?: CongestionControl;
  readonly sack?: boolean;
  readonly window?: number;
  readonly transactions?: TransactionSpec;
}

/** `fault` throws where a field is not for this kind, or out of range. */
export function connectionTerms(
  kind: string,
  body: ConnectionBody & { readonly bytes?: unknown; readonly duration?: unknown },
  fault: (bad: BadField) => never,
): ConnectionTerms {
  const bad = (field: string, detail: string, expected = 'the field to be left out'): never =>
    fault({ pointer: `/${field}`, detail, expected });
  const overTcp = kind.startsWith('tcp');
  const rr = kind === 'tcp_rr' || kind === 'udp_rr';
  const foreign =
    (overTcp ? undefined : TCP_FIELDS.find((f) => body[f] !== undefined)) ??
    (rr ? undefined : TRANSACTION_FIELDS.find((f) => body[f] !== undefined));
  if (foreign !== undefined) bad(foreign, `${foreign} is not for ${kind}`);
  if (rr && body.bytes !== undefined) bad('bytes', `bytes is not for ${kind}`);
  if (body.transactions !== undefined && body.duration !== undefined)
    bad('transactions', 'transactions and duration exclude each other', 'one of them');
  const plain = (parsed: Parsed<number>, field: string): number =>
    parsed.ok ? parsed.value : bad(field, parsed.detail, parsed.expected);
  const size = (
    field: 'window' | 'requestBytes' | 'responseBytes',
    least: number,
    most: number,
  ): number | undefined => {
    const written = body[field];
    if (written === undefined) return undefined;
    const bytes = plain(parseSize(written), field);
    if (bytes < least || bytes > most) bad(field, `${bytes} bytes are out of range`, `${least} to ${most} bytes`);
    return bytes;
  };
  const window = size('window', SMALLEST_WINDOW, LARGEST_WINDOW);
  const terms: ConnectionTerms = {
    ...(body.congestion === undefined ? {} : { congestion: body.congestion }),
    ...(body.sack === undefined ? {} : { sack: body.sack }),
    ...(window === undefined ? {} : { window }),
  };
  if (!rr) return terms;
  const thinkNs = body.thinkTime === undefined ? 0 : plain(parseDuration(body.thinkTime), 'thinkTime');
  if (thinkNs > 3600e9) bad('thinkTime', `${body.thinkTime} is out of range`, 'at most 3600s');
  const transactions = {
    requestBytes: size('requestBytes', 1, MOST_MESSAGE) ?? 1,
    responseBytes: size('responseBytes', 1, MOST_MESSAGE) ?? 1,
    count: body.duration === undefined ? (body.transactions ?? DEFAULT_TRANSACTIONS) : null,
    outstanding: body.outstanding ?? 1,
    thinkNs,
  };
  return { ...terms, transactions };
}
