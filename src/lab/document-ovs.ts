/** The fields of a topology document that are Open vSwitch's. See document-schema.ts. */
import { Type } from 'typebox';
import { flag, integerOrNone, list, object, section } from './document-kit.ts';
import { PORT_NAME_PATTERN } from './units.ts';

const VLAN_MODES = ['access', 'trunk', 'native-tagged', 'native-untagged', 'dot1q-tunnel'] as const;
const PROTOCOLS = ['OpenFlow10', 'OpenFlow11', 'OpenFlow12', 'OpenFlow13', 'OpenFlow14', 'OpenFlow15'] as const;
/** Ports that OpenFlow gives to one bridge are fewer than OFPP_MAX of OpenFlow 1.0. */
const MOST_OFPORT = 65_279;

const portName = (description: string, example: string) =>
  Type.String({ pattern: PORT_NAME_PATTERN, description, examples: [example] });
const names = (description: string, most = 256) => list(portName('Name of a port.', 'eth0'), description, most);
const vlans = (description: string) =>
  list(Type.Integer({ minimum: 0, maximum: 4095, description: 'A VLAN ID.', examples: [10] }), description, 4096);
const config = (description: string) =>
  Type.Optional(
    Type.Unsafe<Record<string, string>>({
      type: 'object',
      description,
      default: {},
      maxProperties: 256,
      additionalProperties: Type.String({ maxLength: 4096 }),
    }),
  );

/** VLAN columns of a Port row. */
export const vlanFields = () => ({
  tag: integerOrNone('VLAN of an access port, or native VLAN (column `tag`). Default: none.', 0, 4095, 10),
  trunks: vlans('VLANs of a trunk port (column `trunks`); none: all.'),
  vlanMode: Type.Optional(
    Type.Enum([...VLAN_MODES], {
      type: 'string',
      description: 'Column `vlan_mode`. Default: none, i.e. `access` with a `tag` and `trunk` without.',
      examples: ['access'],
    }),
  ),
});

const BridgePort = object(
  {
    name: portName('Unique among the ports and bridges of its host.', 'p1'),
    type: Type.Optional(
      Type.Enum(['internal', 'dummy', 'patch'], {
        type: 'string',
        description:
          "`internal`: an interface of the host's kernel. `dummy`: nothing is behind it; frames are put in and read at it by the API. `patch`: half of a patch between two bridges.",
        default: 'dummy',
      }),
    ),
    peer: Type.Optional(portName('The other half of a patch (`options:peer`).', 'patch-br1')),
    ofport: integerOrNone(
      'OpenFlow port number that is asked for (`ofport_request`). Default: one that is free.',
      1,
      MOST_OFPORT,
      1,
    ),
    ...vlanFields(),
  },
  { description: "A port of a bridge of Open vSwitch that is no NIC's." },
);

const Bond = object(
  {
    name: portName('Unique among the ports and bridges of its host.', 'bond0'),
    interfaces: Type.Array(portName('Name of an interface.', 'eth0'), {
      description: 'NICs of the host, guests’ NICs as `guest.nic`, or names of the bridge’s `ports`.',
      minItems: 2,
      maxItems: 16,
    }),
    mode: Type.Optional(
      Type.Enum(['active-backup', 'balance-slb'], {
        type: 'string',
        description: 'Column `bond_mode`. Default: none, which is `active-backup`.',
        examples: ['active-backup'],
      }),
    ),
    ...vlanFields(),
  },
  { description: 'Interfaces that are one port of a bridge.' },
);

const Mirror = object(
  {
    name: Type.String({ maxLength: 128, description: 'Column `name`.', examples: ['m0'] }),
    selectAll: flag('All frames of the bridge (`select_all`).', false),
    selectSrcPort: names('Ports whose received frames are mirrored (`select_src_port`).'),
    selectDstPort: names('Ports whose sent frames are mirrored (`select_dst_port`).'),
    selectVlan: vlans('VLANs whose frames are mirrored (`select_vlan`); none: all.'),
    outputPort: Type.Optional(portName('Port that gets the copies (`output_port`).', 'p1')),
    outputVlan: integerOrNone('VLAN that gets the copies (`output_vlan`).', 1, 4095, 100),
  },
  { description: 'A port mirror.' },
);

/** Fields of a bridge that Open vSwitch has, and the bridge of Linux has not. */
export const ovsBridgeFields = () => ({
  failMode: Type.Optional(
    Type.Enum(['standalone', 'secure'], {
      type: 'string',
      description:
        'Without a controller: `standalone`: the bridge learns and switches. `secure`: it has no flows of its own. Default: none, which is `standalone`.',
      examples: ['secure'],
    }),
  ),
  ports: list(BridgePort, "Ports that are no NIC's.", 256),
  bonds: list(Bond, 'Ports of several interfaces.', 64),
  mirrors: list(Mirror, 'Port mirrors.', 32),
  flows: list(
    Type.String({
      maxLength: 4096,
      description: 'A flow in the syntax of ovs-ofctl.',
      examples: ['priority=10,ip,actions=NORMAL'],
    }),
    'OpenFlow flows that are there when the world begins, as `ovs-ofctl add-flow` takes them. As long as no controller is named and `failMode` is not `secure`, the flow of the standalone mode stands beside them.',
    10_000,
  ),
  controllers: list(
    Type.String({ maxLength: 256, description: 'A target.', examples: ['tcp:127.0.0.1:6653'] }),
    'OpenFlow controllers (`ovs-vsctl set-controller`).',
    8,
  ),
  protocols: list(
    Type.Enum([...PROTOCOLS], { type: 'string', description: 'A version.', examples: ['OpenFlow13'] }),
    'Versions of OpenFlow that the bridge speaks. None: OpenFlow 1.0, 1.3, 1.4 and 1.5; the database takes 1.1 and 1.2, too, but they are not spoken.',
    6,
  ),
  otherConfig: config('Further `other_config` of the Bridge row.'),
  openflowPort: integerOrNone(
    'TCP port at which OpenFlow is spoken with the bridge (`ovs-ofctl show tcp:127.0.0.1:6653`). Default: one that is free.',
    1,
    65_535,
    6653,
  ),
});

/** Open vSwitch of a host. */
export const ovsHostSection = () =>
  section(
    {
      ovsdbPort: integerOrNone(
        'TCP port of the database (`ovs-vsctl --db=tcp:127.0.0.1:6640`). Default: one that is free.',
        1,
        65_535,
        6640,
      ),
      otherConfig: config('`other_config` of the row of Open_vSwitch, such as `max-idle` or `emc-insert-inv-prob`.'),
      dummy: flag(
        '`ovs-vsctl add-port` of a device that the host does not have makes a dummy one, at which frames are put in and read by the API (`ovs-vswitchd --enable-dummy=system`).',
        false,
      ),
      outputBatching: flag(
        'Poll-mode threads send what a burst has for a port in one call. `false`: each flow’s frames by themselves, as Open vSwitch before 2.9: with many flows each frame then costs a call of its own.',
        true,
      ),
    },
    { description: 'Open vSwitch of the host.', examples: [{ ovsdbPort: 6640 }] },
  );
