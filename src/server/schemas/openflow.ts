/** OpenFlow of a bridge, ovs-appctl and frames at dummy ports, as requests and answers. */
import { Type } from 'typebox';
import { closed, name, oneOf, orNull, withDefaults } from './reference.ts';

const FLOW_COMMANDS = ['add', 'modify', 'modify_strict', 'delete', 'delete_strict'] as const;
const COMMANDS = ['add', 'modify', 'delete'] as const;
const MOST = 100_000;

const text = (description: string, example: string) =>
  Type.String({ maxLength: 65_536, description, examples: [example] });
const texts = (description: string, example: string) =>
  Type.Array(text(description, example), { minItems: 1, maxItems: MOST });

export const FlowQuery = closed({
  filter: Type.Optional(
    text('Flows that `ovs-ofctl dump-flows` would print; the answer is text.', 'table=0,in_port=1'),
  ),
});
export const FlowDeleteQuery = withDefaults(
  closed({
    match: Type.String({
      maxLength: 65_536,
      default: '',
      description: 'As `ovs-ofctl del-flows` takes it; without: all flows.',
      examples: ['in_port=1'],
    }),
    strict: Type.Boolean({
      default: false,
      description: '`--strict`: just this match and priority.',
      examples: [false],
    }),
  }),
);
export const GroupDeleteQuery = withDefaults(
  closed({ group: Type.String({ maxLength: 100, default: 'all', description: 'Number, or `all`.', examples: ['1'] }) }),
);
export const MeterDeleteQuery = withDefaults(
  closed({ meter: Type.String({ maxLength: 100, default: 'all', description: 'Number, or `all`.', examples: ['1'] }) }),
);
export const DummyFramesQuery = withDefaults(
  closed({
    after: Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      default: 0,
      description: '`sequence` of the last frame that is known.',
      examples: [0],
    }),
  }),
);

export const FlowChangesSchema = name(
  withDefaults(
    closed(
      {
        command: oneOf(FLOW_COMMANDS, { default: 'add', description: 'Of all of them.', examples: ['add'] }),
        flows: texts(
          'A flow in the syntax of ovs-ofctl; for deletions a match.',
          'priority=10,in_port=1,ip,nw_dst=10.0.0.0/8,actions=output:2',
        ),
      },
      {
        $id: 'FlowChanges',
        description: 'Flows to add, change or delete: all of them or none.',
        examples: [{ flows: ['priority=10,arp,actions=FLOOD', 'priority=0,actions=drop'] }],
      },
    ),
  ),
);
export const GroupChangesSchema = name(
  withDefaults(
    closed(
      {
        command: oneOf(COMMANDS, { default: 'add', examples: ['add'] }),
        groups: texts('A group in the syntax of ovs-ofctl.', 'group_id=1,type=all,bucket=actions=output:1'),
      },
      { $id: 'GroupChanges', description: 'Groups to add, change or delete: all of them or none.' },
    ),
  ),
);
export const MeterChangesSchema = name(
  withDefaults(
    closed(
      {
        command: oneOf(COMMANDS, { default: 'add', examples: ['add'] }),
        meters: texts('A meter in the syntax of ovs-ofctl.', 'meter=1,kbps,band=type=drop,rate=1000'),
      },
      { $id: 'MeterChanges', description: 'Meters to add, change or delete, one after the other.' },
    ),
  ),
);
export const OpenFlowChangedSchema = name(
  closed(
    {
      changed: Type.Integer({
        minimum: 0,
        description: 'Flows that came, went or were replaced; groups or meters.',
        examples: [2],
      }),
    },
    { $id: 'OpenFlowChanged', description: 'What was changed.' },
  ),
);
export const GroupsSchema = name(
  closed(
    { groups: Type.Array(Type.String({ examples: ['group_id=1,type=all,bucket=actions=output:1'] })) },
    { $id: 'Groups', description: 'Groups as `ovs-ofctl dump-groups` prints them.' },
  ),
);
export const MetersSchema = name(
  closed(
    { meters: Type.Array(Type.String({ examples: ['meter=1 kbps bands=\ntype=drop rate=1000'] })) },
    { $id: 'Meters', description: 'Meters as `ovs-ofctl dump-meters` prints them.' },
  ),
);
export const TraceRequestSchema = name(
  withDefaults(
    closed(
      {
        flow: text('A flow of the bridge, in the syntax of ovs-ofctl.', 'in_port=1,udp,nw_dst=10.0.0.2'),
        frame: orNull(
          Type.String({ pattern: '^([0-9a-fA-F]{2}){14,9018}$', examples: ['ffffffffffff5254000000010806'] }),
          {
            default: null,
            description: 'A frame in hexadecimal digits: `flow` then says its metadata only.',
          },
        ),
      },
      {
        $id: 'TraceRequest',
        description: 'A frame to follow through the tables.',
        examples: [{ flow: 'in_port=1,udp' }],
      },
    ),
  ),
);
export const TraceSchema = name(
  closed(
    {
      text: Type.String({
        examples: ['Flow: udp,in_port=1,…\n\nbridge("br0")\n-------------\n 0. priority 0\n    NORMAL\n'],
      }),
    },
    { $id: 'Trace', description: 'What `ovs-appctl ofproto/trace` prints. Nothing has been changed or counted.' },
  ),
);
export const AppctlRequestSchema = name(
  withDefaults(
    closed(
      {
        command: Type.String({ minLength: 1, maxLength: 200, examples: ['fdb/show'] }),
        args: Type.Array(Type.String({ maxLength: 65_536 }), { default: [], maxItems: 1000, examples: [['br0']] }),
      },
      {
        $id: 'AppctlRequest',
        description: 'A command of ovs-appctl.',
        examples: [{ command: 'fdb/show', args: ['br0'] }],
      },
    ),
  ),
);
export const AppctlOutputSchema = name(
  closed(
    {
      output: Type.String({ examples: [' port  VLAN  MAC                Age\n'] }),
      error: orNull(Type.String(), {
        description: 'What ovs-appctl prints before it ends with exit status 2; null where it does not.',
        examples: [null],
      }),
    },
    { $id: 'AppctlOutput', description: 'What ovs-appctl prints.' },
  ),
);
export const DummyFramesRequestSchema = name(
  closed(
    {
      frames: Type.Array(
        Type.String({
          pattern: '^([0-9a-fA-F]{2})+$',
          maxLength: 18_036,
          description: 'Bytes of a frame, two hexadecimal digits each.',
          examples: ['ffffffffffff525400000001080600'],
        }),
        {
          minItems: 1,
          maxItems: 1000,
          description: 'Frames in hexadecimal digits, without FCS.',
        },
      ),
    },
    { $id: 'DummyFramesRequest', description: 'Frames that come in by a port.' },
  ),
);
export const DummyFramesSchema = name(
  closed(
    {
      sent: Type.Integer({ minimum: 0, description: 'Frames that have left by the port.', examples: [1] }),
      frames: Type.Array(
        closed({
          sequence: Type.Integer({ minimum: 1, description: 'Counts the frames of the port.', examples: [1] }),
          timeSeconds: Type.Number({ description: 'Virtual time.', examples: [0.001] }),
          frame: Type.String({ description: 'Hexadecimal digits.', examples: ['ffffffffffff5254000000010806'] }),
        }),
        { description: 'The last 1024 of them.' },
      ),
    },
    { $id: 'DummyFrames', description: 'What left by a port without a device.' },
  ),
);
