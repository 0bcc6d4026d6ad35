/** Traffic: what to send, and what came of it. */
import { Type } from 'typebox';
import { End, TrafficRequest as trafficRequest } from '../../lab/traffic-request.ts';
import { closed, mapOf, name, oneOf, orNull, pageOf, withDefaults } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

export const TrafficRequest = name(trafficRequest);

export const FramesRequest = name(
  closed(
    {
      at: End,
      frames: Type.Array(
        Type.String({
          pattern: '^([0-9a-fA-F]{2}){60,1514}$',
          maxLength: 3028,
          description: 'An Ethernet frame without FCS in hexadecimal, 60 to 1514 bytes.',
          examples: [
            'ffffffffffff525400000001080600010800060400015254000000010a0000010000000000000a000002000000000000000000000000000000000000',
          ],
        }),
        { minItems: 1, maxItems: 100_000, description: 'Sent as fast as possible, in this order.' },
      ),
    },
    {
      $id: 'FramesRequest',
      description: 'Raw frames to send at a point.',
      examples: [
        {
          at: 'a/net0',
          frames: [
            'ffffffffffff525400000001080600010800060400015254000000010a0000010000000000000a000002000000000000000000000000000000000000',
          ],
        },
      ],
    },
  ),
);

export const RunSchema = name(
  closed(
    {
      id: Type.String({ examples: ['run-1'] }),
      kind: oneOf(['udp', 'ping', 'tcp', 'tcp_stream', 'tcp_rr', 'udp_rr', 'frames', 'replay'], { examples: ['udp'] }),
      state: oneOf(['PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'], { examples: ['SUCCEEDED'] }),
      reason: Type.Optional(Type.String({ description: 'Why it failed.', examples: ['no answer to ARP'] })),
      from: Type.String({ examples: ['a/net0'] }),
      to: orNull(Type.String(), { examples: ['b/net0'] }),
      sent: whole('Frames sent.', 100000),
      received: whole(
        "Frames placed in the far end's receive ring; for ping, answers; for tcp, tcp_rr and udp_rr, frames that reached either end.",
        100000,
      ),
      replicated: whole('Copies made by flooding.'),
      duplicated: whole(
        'Frames sent again after a vhost-user back-end had died: frames of their own, beside those that were sent.',
      ),
      elsewhere: whole('Frames that ended at another place than `to`.'),
      dropped: mapOf(Type.Integer(), { description: 'Dropped frames by reason.', examples: [{}] }),
      virtual: closed({
        startSeconds: number('First send.', 0.002),
        durationSeconds: number('First send to last delivery.', 0.1),
        framesPerSecond: number('Delivered frames per second of virtual time.', 1000000),
        frameBitsPerSecond: number('With FCS.', 512000000),
        lineBitsPerSecond: number('With FCS, preamble and gap.', 672000000),
        latencySeconds: closed({
          p50: number('Median.'),
          p90: number('90 %.'),
          p99: number('99 %.'),
          max: number('Longest.'),
        }),
      }),
      perFrame: closed(
        {
          exitsKernel: number('Exits by device access, answered in the kernel.', 1),
          exitsUserspace: number('Exits by device access, answered in userspace.'),
          kicks: number('Available buffer notifications.', 1),
          kicksSuppressed: number('Kicks that the ring said were not wanted.'),
          interrupts: number('Used buffer notifications.', 1),
          interruptsSuppressed: number('Interrupts that the ring said were not wanted.'),
          copies: number('Copies by host CPUs.', 2),
          copiedBytes: number('Bytes they copied.', 120),
          guestCopies: number('Copies by the guests.'),
          dmaTransfers: number('Moves by NICs.'),
          syscalls: number('System calls of the data path.', 2),
          wakeups: number('Contexts that were woken.', 1),
        },
        { description: "Counters of the run's own devices and contexts, divided by the frames delivered." },
      ),
      shared: Type.Boolean({ description: 'Another run overlapped: perFrame holds its share too.', examples: [false] }),
      exitsByReason: mapOf(Type.Number(), { examples: [{ EPT_MISCONFIG: 1, HLT: 1, EXTERNAL_INTERRUPT: 0 }] }),
      queues: Type.Array(
        closed({
          guest: Type.String({ examples: ['a'] }),
          nic: Type.String({ examples: ['net0'] }),
          queue: Type.String({ examples: ['tx0'] }),
          kicks: number('Kicks.', 1),
          kicksSuppressed: number('Kicks suppressed.'),
          interrupts: number('Interrupts.', 1),
          interruptsSuppressed: number('Interrupts suppressed.'),
        }),
      ),
      contexts: Type.Array(
        closed({
          name: Type.String({ examples: ['pmd-c02'] }),
          busyRatio: number('Busy share of its virtual time.', 0.9),
        }),
      ),
      wall: closed({
        durationSeconds: number('What the emulator took.', 0.05),
        framesPerSecond: number('Frames per second of that.', 2000000),
      }),
      capture: Type.Optional(
        closed(
          {
            frames: whole('Frames of the capture that are sent.', 100),
            skipped: mapOf(Type.Integer(), {
              description: 'Packets that are not: truncated, notEthernet, tooShort, tooLong.',
              examples: [{ tooLong: 0 }],
            }),
            timesRaised: whole('Frames whose time was before that of the frame before them, and was set to it.'),
          },
          { description: 'What was made of the body; in the answer to a replay only.' },
        ),
      ),
      costs: closed(
        {
          profile: Type.String({ description: 'Name of the cost profile.', examples: ['haswell-2.4'] }),
          hash: Type.String({ description: 'Of all effective costs.', examples: ['0123456789abcdef'] }),
          overrides: whole('Costs that the document sets itself.'),
        },
        { description: 'What its virtual times were computed from: numbers compare where the hashes are equal.' },
      ),
      tcp: Type.Optional(
        closed(
          {
            connections: whole('Connections.', 1),
            open: whole('Ends of connections that are not closed yet.'),
            bytes: whole('Bytes that the servers have received in order.', 1048576),
            acknowledgedBytes: whole('Bytes of them that the clients know of.', 1048576),
            bitsPerSecond: number('Payload per second of virtual time.', 9000000000),
            packets: whole('Packets with data that the clients gave to their drivers.', 17),
            segments: whole('Segments that were cut from them.', 725),
            segmentsPerPacket: number('Segments of a packet, on average: above 1 with segmentation offload.', 42.6),
            mss: whole('Bytes of payload in a full segment.', 1448),
            retransmits: whole('Segments that were sent again.'),
            timeouts: whole('Retransmission timers that ran out.'),
            mismatches: whole('Segments with bytes that were not sent. Above 0 the run has failed.'),
            congestion: oneOf(['newreno', 'cubic'], {
              description: 'Congestion control of the senders.',
              examples: ['cubic'],
            }),
            sack: orNull(Type.Boolean(), {
              description:
                'Selective acknowledgements were negotiated, by all connections whose handshake is over; null: none is.',
              examples: [true],
            }),
            fastRecoveries: whole('Losses that were found without a timeout.'),
            senders: Type.Array(
              closed({
                localPort: whole('Its port.', 32768),
                cwndBytes: whole('Congestion window: bytes that may be under way.', 262144),
                ssthreshBytes: orNull(Type.Integer({ minimum: 0 }), {
                  description: 'Where slow start ends; null: it has not met a loss.',
                  examples: [null],
                }),
                smoothedRoundTripSeconds: number('Smoothed round-trip time.', 0.00004),
                retransmits: whole('Segments that it sent again.'),
                fastRecoveries: whole('Losses that it found without a timeout.'),
                timeouts: whole('Retransmission timers of it that ran out.'),
              }),
              { description: 'The client sides, 16 of them at most: as they are now, or were when the run ended.' },
            ),
          },
          {
            description:
              'Of TCP traffic, once its connections are being opened. `sent` and `received` count the frames of both directions, `latencySeconds` is the round trip that the ends have measured (tcp_rr: that of transactions).',
          },
        ),
      ),
      transactions: Type.Optional(
        closed(
          {
            requestBytes: whole('Bytes of a request.', 1),
            responseBytes: whole('Bytes of a response.', 1),
            connections: whole('Clients, each with its server.', 1),
            outstanding: whole('Requests of a connection that wait for their response at a time, at most.', 1),
            completed: whole('Requests whose response was read.', 1000),
            lost: whole('Requests without a response after a second (UDP).'),
            perSecond: number(
              'Transactions per second of virtual time, from the first request to the last response.',
              22495,
            ),
            latencySeconds: closed({
              mean: number('Mean.', 0.0000445),
              p50: number('Median.', 0.0000445),
              p90: number('90 %.', 0.0000445),
              p99: number('99 %.', 0.0000445),
              max: number('Longest.', 0.0000445),
            }),
          },
          {
            description:
              'Of tcp_rr and udp_rr: from the moment when a client begins to send a request until it has read the response.',
          },
        ),
      ),
      frames: closed({ first: whole('First frame id; 0 = none yet.', 1), last: whole('Last frame id.', 100000) }),
    },
    { $id: 'Run', description: 'A traffic run: its progress, then its result.' },
  ),
);
export const RunPage = pageOf(RunSchema, 'RunPage');

export const WaitQuery = closed({
  wait: Type.Optional(
    Type.String({
      pattern: '^[0-9]{1,4}(\\.[0-9]{1,3})?s?$',
      description: 'Answer when the run has ended, or after this many seconds (at most 300).',
      examples: ['30s'],
    }),
  ),
});
export const ReplayQuery = withDefaults(
  closed({
    at: End,
    speed: oneOf(['original', 'max'], {
      default: 'original',
      description: "`original`: with the capture's times.",
      examples: ['max'],
    }),
  }),
);
