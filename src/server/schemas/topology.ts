/** Topologies and their clock, as the API shows them. */
import { Type } from 'typebox';
import { LATEST_SECONDS } from '../../lab/units.ts';
import { closed, mapOf, name, oneOf, orNull, pageOf, ref } from './reference.ts';
import { TopologyDocumentSchema } from './topology-document.ts';

const STATES = ['CREATING', 'RUNNING', 'PAUSED', 'FAILED'] as const;
const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
const seconds = (description: string, example = 0) => Type.Number({ minimum: 0, description, examples: [example] });

export const ConservationSchema = name(
  closed(
    {
      injected: whole('Frames that entered the world.', 100),
      replicated: whole('Copies made by flooding.', 1),
      duplicated: whole('Frames sent again after a vhost-user back-end had died.'),
      segments: whole('Frames made by segmentation.'),
      delivered: whole('Frames that reached an end that wanted them.', 98),
      consumed: whole('Frames that a protocol took.', 2),
      dropped: mapOf(Type.Integer(), { description: 'Dropped frames by reason.', examples: [{ 'tap.queue_full': 1 }] }),
      segmented: whole('Frames that were cut into segments.'),
      merged: whole('Frames merged into others.'),
      inFlight: whole('Frames counted now in rings, queues and buffers.'),
      holds: Type.Boolean({ description: 'Whether the equation holds at this moment.', examples: [true] }),
    },
    {
      $id: 'Conservation',
      description:
        'injected + replicated + duplicated + segments = delivered + consumed + dropped + segmented + merged + inFlight.',
    },
  ),
);

const JournalEntry = name(
  closed(
    {
      virtualTimeSeconds: seconds('When the command landed, in virtual time.', 0.001),
      command: Type.String({ examples: ['traffic'] }),
      detail: Type.String({ examples: ['run-1'] }),
    },
    { $id: 'JournalEntry', description: 'A command that changed the run.' },
  ),
);

const status = {
  state: oneOf(STATES, { examples: ['RUNNING'] }),
  virtualTimeSeconds: seconds('Virtual time that has passed.', 0.0042),
  fingerprint: Type.String({
    pattern: '^[0-9a-f]{16}$',
    description: 'Order-free hash of all events so far: equal for equal document, seed and commands.',
    examples: ['a1b2c3d4e5f60718'],
  }),
  events: whole('Events recorded so far.', 1200),
};
const topologyName = Type.String({ examples: ['t1'] });
const reason = orNull(Type.String(), {
  description: 'Why the topology failed; null while it has not.',
  examples: [null],
});

const EndpointSchema = name(
  closed(
    {
      host: Type.String({ examples: ['h1'] }),
      bridge: Type.Optional(Type.String({ description: 'Of `openflow`.', examples: ['br0'] })),
      protocol: oneOf(['ovsdb', 'openflow', 'unixctl'], { examples: ['ovsdb'] }),
      target: Type.String({
        description: 'As clients take it: `ovs-vsctl --db=…`, `ovs-ofctl … …`, `ovs-appctl -t …`.',
        examples: ['tcp:127.0.0.1:6640'],
      }),
      error: Type.Optional(
        Type.String({
          description: 'Why it is not there; it is tried again every second.',
          examples: ['Address already in use'],
        }),
      ),
    },
    { $id: 'Endpoint', description: "Where Open vSwitch's clients connect to." },
  ),
);

export const TopologySummary = name(
  closed({ name: topologyName, ...status, reason }, { $id: 'TopologySummary', description: 'A topology in a list.' }),
);
export const TopologySchema = name(
  closed(
    {
      name: topologyName,
      ...status,
      reason,
      document: ref(TopologyDocumentSchema),
      effective: orNull(ref(TopologyDocumentSchema), {
        description:
          'The document that would make what stands now: `document` with what clients of the hosts’ databases have changed. null: no document says it.',
      }),
      conservation: orNull(ref(ConservationSchema), {
        description: 'null while no engine can say it: the topology is being created, or its engine died.',
      }),
      endpoints: Type.Array(ref(EndpointSchema), {
        description: "Where Open vSwitch's clients connect to; docs/ovs.md shows how.",
      }),
      journal: Type.Array(ref(JournalEntry), { description: 'Commands that changed the run, the newest 1000.' }),
    },
    { $id: 'Topology', description: 'A topology and how its world stands.' },
  ),
);
export const TopologyPage = pageOf(TopologySummary, 'TopologyPage');

export const ClockSchema = name(
  closed(
    {
      mode: oneOf(['work', 'real'], {
        description: '`work`: as fast as the emulator can; `real`: paced.',
        examples: ['work'],
      }),
      factor: Type.Number({ description: 'Virtual seconds per wall second, for mode `real`.', examples: [1] }),
      state: oneOf(['RUNNING', 'PAUSED'], { examples: ['RUNNING'] }),
      virtualTimeSeconds: status.virtualTimeSeconds,
      idle: Type.Boolean({ description: 'Nothing is pending: virtual time stands still.', examples: [true] }),
      deterministic: Type.Boolean({ examples: [true] }),
      events: status.events,
      waitingFor: Type.Integer({
        minimum: 0,
        description: 'Readers with `slow=block` that are behind: virtual time waits for them.',
        examples: [0],
      }),
    },
    { $id: 'Clock', description: "A world's clock." },
  ),
);
export const ClockCommandSchema = name(
  closed(
    {
      mode: Type.Optional(oneOf(['work', 'real'], { examples: ['real'] })),
      factor: Type.Optional(
        Type.Number({
          minimum: 0.000001,
          maximum: 1000,
          description: 'Virtual seconds per wall second.',
          examples: [1],
        }),
      ),
      state: Type.Optional(oneOf(['RUNNING', 'PAUSED'], { examples: ['PAUSED'] })),
      step: Type.Optional(
        oneOf(['event', 'frame'], {
          description: 'Runs the smallest step that records an event, or until one more frame has ended; then pauses.',
          examples: ['event'],
        }),
      ),
      until: Type.Optional(
        Type.Number({
          minimum: 0,
          maximum: LATEST_SECONDS,
          description: 'Runs until this virtual time in seconds, then pauses.',
          examples: [0.001],
        }),
      ),
    },
    {
      $id: 'ClockCommand',
      minProperties: 1,
      description: 'What to change; `step`, `until` and `state` exclude each other.',
      examples: [{ state: 'PAUSED' }, { step: 'frame' }, { until: 0.001 }],
    },
  ),
);
