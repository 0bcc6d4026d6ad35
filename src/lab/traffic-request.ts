/**
 * Requests for generated traffic, as users write them: the schema, and what the engine is told. Clients of the API, templates of
 * experiments and documents of the command line all write this form.
 */
import { type Static, Type } from 'typebox';
import type { TrafficSpec } from './protocol.ts';
import { closed, oneOf } from './schema-kit.ts';
import { CONNECTION_KINDS, connectionFields, connectionTerms } from './traffic-connections.ts';
import { framesOf, PATTERN_FIELDS, patternFields, patternOf } from './traffic-pattern.ts';
import { DURATION_PATTERN, type Parsed, parseDuration, parseSize, SIZE_PATTERN } from './units.ts';

export const End = Type.String({
  minLength: 1,
  maxLength: 200,
  description:
    '`guest/nic`, `bridge/port` (sending only) or the name of a physical NIC; `host/` in front where there are several hosts.',
  examples: ['a/net0'],
});

export const TrafficRequest = closed(
  {
    kind: oneOf(['udp', 'ping', 'tcp', 'tcp_stream', 'tcp_rr', 'udp_rr'], {
      description:
        '`tcp_stream` is another name of `tcp`. `tcp_rr`, `udp_rr`: a client asks, a server answers, and so on.',
      examples: ['udp'],
    }),
    from: End,
    to: End,
    frameSize: Type.Optional(
      Type.Integer({
        minimum: 64,
        maximum: 1518,
        default: 64,
        description: 'Ethernet frame size in bytes, FCS included (64 means 60 bytes in memory).',
        examples: [64],
      }),
    ),
    count: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1_000_000_000,
        default: 100,
        description: 'Frames, or echo requests.',
        examples: [100000],
      }),
    ),
    rate: Type.Optional(
      Type.Unsafe<string | number>({
        anyOf: [
          { type: 'string', pattern: '^(max|[0-9]{1,10}(\\.[0-9]{1,6})?/s)$' },
          { type: 'number', exclusiveMinimum: 0, maximum: 1_000_000_000 },
        ],
        default: 'max',
        description: 'Frames per second of virtual time (`10000` or `"10000/s"`), or `max`: what the generator can do.',
        examples: ['max', 10000],
      }),
    ),
    generator: Type.Optional(
      oneOf(['socket', 'pktgen', 'txonly'], {
        description:
          '`socket`: a UDP socket loop (default for the kernel driver). `pktgen`: in the kernel, with `xmit_more`. `txonly`: the DPDK program (default for the PMD).',
        examples: ['socket'],
      }),
    ),
    flows: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 65536,
        default: 1,
        description: 'UDP source ports to spread the frames over; the sender has a queue pair for each of them.',
        examples: [1],
      }),
    ),
    ...patternFields(),
    segments: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 64,
        description:
          "UDP_SEGMENT: datagrams that one send of a socket hands down together, as one frame where VIRTIO_NET_F_HOST_USO was negotiated, else cut by the guest's kernel. Default 1.",
        examples: [16],
      }),
    ),
    family: Type.Optional(
      Type.Union([Type.Literal(4), Type.Literal(6)], {
        description:
          'IP version. Default: 4, or 6 where the ends have IPv6 addresses only. With 6, ends without addresses of one subnet use their link-local ones.',
        examples: [4],
      }),
    ),
    bytes: Type.Optional(
      Type.Unsafe<string | number>({
        anyOf: [
          { type: 'string', pattern: SIZE_PATTERN },
          { type: 'integer', minimum: 0, maximum: 1_000_000_000_000 },
        ],
        description: 'TCP: what all connections send together, in bytes or as a size. Default 1 MiB.',
        examples: ['16MiB', 1000000],
      }),
    ),
    duration: Type.Optional(
      Type.String({
        pattern: DURATION_PATTERN,
        maxLength: 32,
        description:
          'How long is sent, in virtual time. TCP: instead of `bytes`. tcp_rr, udp_rr: instead of `transactions`. UDP: instead of `count`; frames that are due before it is over, or with the rate `max` as many as the generator can.',
        examples: ['10ms'],
      }),
    ),
    connections: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1024,
        description: 'TCP, udp_rr: connections at the same time, each with a queue pair. Default 1.',
        examples: [1],
      }),
    ),
    port: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 32767,
        description: "TCP, udp_rr: the server's port. Default 5001.",
        examples: [5001],
      }),
    ),
    ...connectionFields(),
  },
  {
    $id: 'TrafficRequest',
    description:
      'Traffic to generate. `tcp` opens connections from one guest to another and takes `family`, `bytes` or `duration`, `connections`, `port`, `congestion`, `sack` and `window`; `tcp_rr` the same with `transactions` in place of `bytes`, and the sizes of requests and responses; `udp_rr` the same without those of TCP. The other fields are for `udp` and `ping`, `duration` for `udp` too.',
    examples: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 64, count: 1000, rate: 'max' }],
  },
);

export type TrafficRequestBody = Static<typeof TrafficRequest>;

/** A request whose fields do not go together. */
export class BadTraffic extends Error {
  readonly pointer: string;
  readonly detail: string;
  readonly expected: string;
  constructor(pointer: string, detail: string, expected: string) {
    super(`${detail}; expected ${expected}`);
    this.pointer = pointer;
    this.detail = detail;
    this.expected = expected;
  }
}

/** 0 is the protocol's word for as fast as the generator can. */
function framesPerSecond(rate: string | number): number {
  if (typeof rate === 'number') return rate;
  if (rate === 'max') return 0;
  const value = Number(rate.replace(/\/s$/, ''));
  if (value > 0 && value <= 1_000_000_000) return value;
  throw new BadTraffic(
    '/rate',
    `'${rate}' is not a rate`,
    'above 0 and at most 1000000000 frames per second, or `max`',
  );
}

/** Longest pause between two frames, seconds: as long as a duration or a client's think time may be. */
const LONGEST_PAUSE = 3600;
/**
 * Refuses frames that are due so rarely that a world would do nothing but wait, for as long as it is let. How many they are does not
 * matter: a billion of them are asked for by who ends the run himself.
 */
function checkPace(rate: number, frames: number, burst: number): void {
  if (rate === 0 || frames <= burst || rate >= burst / LONGEST_PAUSE) return;
  throw new BadTraffic(
    '/rate',
    `at ${rate} frames per second the next ${burst === 1 ? 'frame' : 'burst'} is due after ${burst / rate} s`,
    `at least ${burst / LONGEST_PAUSE} frames per second: one in ${LONGEST_PAUSE} s`,
  );
}
const MOST_FRAMES = 1_000_000_000;
const TCP_ONLY = ['bytes', 'duration', 'connections', 'port'] as const;
/** With their defaults, which the schema has filled in. */
const FRAMES_ONLY = { frameSize: 64, count: 100, rate: 'max', generator: undefined, flows: 1 } as const;

/**
 * The request with its defaults, in the engine's units. Throws where a field does not belong to the kind of traffic. `measured`: it
 * is a stream of a measurement, whose trials have their own rates.
 */
export function trafficSpec(body: Static<typeof TrafficRequest>, measured = false): Omit<TrafficSpec, 'id'> {
  const { kind, from, to, frameSize = 64, count = 100, rate = 'max', generator = null, flows = 1, family } = body;
  if (body.segments !== undefined && kind !== 'udp') {
    throw new BadTraffic('/segments', `segments is not for ${kind}`, 'the field to be left out');
  }
  const connects = (CONNECTION_KINDS as readonly string[]).includes(kind);
  const foreign = connects
    ? (Object.keys(FRAMES_ONLY) as (keyof typeof FRAMES_ONLY)[]).find(
        (f) => body[f] !== undefined && body[f] !== FRAMES_ONLY[f],
      )
    : TCP_ONLY.find((f) => body[f] !== undefined && !(f === 'duration' && kind === 'udp'));
  if (foreign !== undefined) {
    throw new BadTraffic(`/${foreign}`, `${foreign} is not for ${kind}`, 'the field to be left out');
  }
  const terms = connectionTerms(kind, body, (bad) => {
    throw new BadTraffic(bad.pointer, bad.detail, bad.expected);
  });
  const shaped = kind === 'udp' ? undefined : PATTERN_FIELDS.find((f) => body[f] !== undefined);
  if (shaped !== undefined) {
    throw new BadTraffic(`/${shaped}`, `${shaped} is not for ${kind}`, 'the field to be left out');
  }
  if ((body.imix ?? body.sizes) !== undefined && frameSize !== FRAMES_ONLY.frameSize) {
    throw new BadTraffic('/frameSize', 'a mix of sizes has no frameSize', 'the field to be left out');
  }
  if (kind === 'udp' && body.duration !== undefined && count !== FRAMES_ONLY.count) {
    throw new BadTraffic('/count', 'count and duration exclude each other', 'one of them');
  }
  if (body.bytes !== undefined && body.duration !== undefined) {
    throw new BadTraffic('/duration', 'bytes and duration exclude each other', 'one of them');
  }
  const spec = { kind, from, to, frameSize, count, rate: framesPerSecond(rate), generator, flows, family };
  const { connections, port } = body;
  const bytes = body.bytes === undefined ? undefined : plain(parseSize(body.bytes), '/bytes');
  const duration = body.duration === undefined ? undefined : plain(parseDuration(body.duration), '/duration');
  if (bytes !== undefined && bytes > 1e12)
    throw new BadTraffic('/bytes', `${bytes} bytes are too many`, 'at most 1e12 bytes');
  if (duration !== undefined && (duration === 0 || duration > 3600e9)) {
    throw new BadTraffic('/duration', `${body.duration} is out of range`, 'above 0 and at most 3600s');
  }
  const durationSeconds = duration === undefined ? undefined : duration / 1e9;
  const pattern = patternOf(body, { rate: spec.rate, segments: body.segments ?? 1, measured }, (bad) => {
    throw new BadTraffic(bad.pointer, bad.detail, bad.expected);
  });
  // datagrams for a time: as many as that takes
  const timed = kind === 'udp' && durationSeconds !== undefined ? { count: MOST_FRAMES } : {};
  const shape = pattern === undefined ? {} : { pattern };
  if (!connects) checkPace(spec.rate, framesOf({ ...spec, ...timed, durationSeconds }), body.burst ?? 1);
  return { ...spec, ...timed, ...shape, ...terms, bytes, durationSeconds, connections, port, segments: body.segments };
}
function plain(parsed: Parsed<number>, field: string): number {
  if (parsed.ok) return parsed.value;
  throw new BadTraffic(field, parsed.detail, parsed.expected);
}
