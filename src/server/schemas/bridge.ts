/** What can be seen of a bridge. */
import { Type } from 'typebox';
import { closed, mapOf, name, orNull, pageOf, ref } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });

export const BridgePort = name(
  closed(
    {
      name: Type.String({ examples: ['a.net0'] }),
      number: whole('OpenFlow port number.', 1),
      type: Type.String({ examples: ['tap'] }),
      rxPackets: whole('Frames that entered the bridge here.', 10),
      txPackets: whole('Frames that left the bridge here.', 10),
      rxBytes: whole('Their bytes.', 640),
      txBytes: whole('Their bytes.', 640),
      drops: mapOf(Type.Integer(), { examples: [{ 'tap.queue_full': 0 }] }),
      mtu: whole('Longer frames are dropped here (`dp.mtu_exceeded`).', 1500),
      offloads: Type.Array(
        closed({
          name: Type.String({ description: 'As `ethtool -k` calls it.', examples: ['tx-checksumming'] }),
          on: Type.Boolean({ description: 'Off: the bridge does it in software before.', examples: [true] }),
          why: orNull(Type.String(), {
            description: 'Why it is off although it was asked for.',
            examples: [null],
          }),
        }),
        { description: 'What the interface behind the port does itself, towards it and (NICs) from it.' },
      ),
    },
    { $id: 'BridgePort', description: 'A port and its counters, as `ovs-ofctl dump-ports` shows them.' },
  ),
);
export const FdbEntry = name(
  closed(
    {
      port: Type.String({ examples: ['a.net0'] }),
      vlan: whole('VLAN.'),
      mac: Type.String({ examples: ['52:54:00:00:00:01'] }),
      ageSeconds: Type.Number({ examples: [0.01] }),
    },
    { $id: 'FdbEntry', description: 'A learned address, as `ovs-appctl fdb/show` or `bridge fdb show` shows it.' },
  ),
);
export const OpenFlowFlow = name(
  closed(
    {
      table: whole('Table.'),
      priority: whole('Priority.', 0),
      match: Type.String({ examples: [''] }),
      actions: Type.String({ examples: ['NORMAL'] }),
      packets: whole('Frames.', 10),
      bytes: whole('Bytes.', 640),
    },
    { $id: 'OpenFlowFlow', description: 'A flow of the OpenFlow table, as `ovs-ofctl dump-flows` shows it.' },
  ),
);
export const DatapathFlow = name(
  closed(
    {
      ufid: Type.String({ examples: ['00000001'] }),
      match: Type.String({ examples: ['in_port(1)'] }),
      actions: Type.String({ examples: ['2'] }),
      packets: whole('Frames.', 10),
      bytes: whole('Bytes.', 640),
      usedSeconds: orNull(Type.Number(), { description: 'Time since the last hit; null = never.', examples: [0.01] }),
    },
    { $id: 'DatapathFlow', description: 'A flow of the datapath, as `ovs-appctl dpctl/dump-flows` shows it.' },
  ),
);
const Caches = mapOf(Type.Number(), {
  description: 'Cache statistics by the names that ovs-appctl uses; of a Linux bridge what it counts.',
  examples: [{ hit: 9, missed: 1 }],
});

export const BridgeSchema = name(
  closed(
    {
      name: Type.String({ examples: ['br0'] }),
      host: Type.String({ examples: ['h1'] }),
      datapath: Type.String({ examples: ['system'] }),
      ports: Type.Array(ref(BridgePort)),
      fdb: Type.Array(ref(FdbEntry)),
      flows: Type.Array(ref(OpenFlowFlow), { description: 'A Linux bridge has none.' }),
      datapathFlows: Type.Array(ref(DatapathFlow)),
      caches: Caches,
    },
    { $id: 'Bridge', description: 'A bridge, of Open vSwitch or of the Linux kernel.' },
  ),
);
export const BridgePage = pageOf(BridgeSchema, 'BridgePage');
export const FdbPage = pageOf(FdbEntry, 'FdbPage');
export const PortPage = pageOf(BridgePort, 'PortPage');
export const FlowsSchema = name(
  closed(
    { openflow: Type.Array(ref(OpenFlowFlow)), datapath: Type.Array(ref(DatapathFlow)) },
    { $id: 'Flows', description: 'The OpenFlow table and the datapath flows that came of it.' },
  ),
);
const ThreadCaches = name(
  closed(
    {
      thread: Type.String({
        description: 'PMD, or `main` for the threads that are none.',
        examples: ['pmd-c01'],
      }),
      core: orNull(Type.Integer(), { description: 'Core of the PMD.', examples: [1] }),
      caches: Caches,
    },
    { $id: 'ThreadCaches', description: 'As `ovs-appctl dpif-netdev/pmd-stats-show` shows a thread.' },
  ),
);
export const CachesSchema = name(
  closed(
    {
      caches: Caches,
      threads: Type.Array(ref(ThreadCaches), { description: 'Of the netdev datapath; all its bridges share them.' }),
    },
    { $id: 'Caches', description: 'Cache statistics of a bridge.' },
  ),
);
