/** What can be seen of a guest: its NICs, their queues, its memory. */
import { Type } from 'typebox';
import { NicMigrationSchema, servedBy } from './qemu.ts';
import { closed, mapOf, name, oneOf, orNull, pageOf, ref } from './reference.ts';
import { NicIommuSchema } from './translation.ts';

const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
const hex = (description: string, example: string) => Type.String({ description, examples: [example] });

const GuestNicSummary = name(
  closed(
    {
      guest: Type.String({ examples: ['a'] }),
      nic: Type.String({ examples: ['net0'] }),
      backend: Type.String({ examples: ['vhost-net'] }),
      driver: Type.String({ examples: ['virtio-net'] }),
      mac: Type.String({ examples: ['52:54:00:00:00:01'] }),
    },
    { $id: 'GuestNicSummary', description: 'A NIC of a guest in a list.' },
  ),
);
export const GuestSchema = name(
  closed(
    {
      name: Type.String({ examples: ['a'] }),
      host: Type.String({ examples: ['h1'] }),
      vcpus: whole('Virtual CPUs.', 1),
      memoryBytes: whole('RAM.', 16777216),
      app: Type.String({ examples: ['stack'] }),
      nics: Type.Array(ref(GuestNicSummary)),
    },
    { $id: 'Guest', description: 'A guest.' },
  ),
);
export const GuestPage = pageOf(GuestSchema, 'GuestPage');

const FeatureSchema = name(
  closed(
    {
      bit: whole('Number of the bit.', 34),
      name: Type.String({ examples: ['VIRTIO_F_RING_PACKED'] }),
      offered: Type.Boolean({ description: 'By the device to the driver.', examples: [false] }),
      accepted: Type.Boolean({ description: 'By the driver, and FEATURES_OK is set.', examples: [false] }),
      missing: orNull(Type.String(), {
        description: 'Why the bit is not in use; null where it is.',
        examples: ['packed is false in the document'],
      }),
    },
    { $id: 'Feature', description: 'A feature bit of a virtio device.' },
  ),
);

const flag = (description: string) => Type.Boolean({ description, examples: [false] });
const NicControlSchema = name(
  closed(
    {
      queuePairs: whole('Queue pairs in use.', 1),
      offloads: Type.Array(Type.String(), { description: 'Receive offloads that are on.', examples: [[]] }),
      filter: closed(
        {
          promisc: flag('Every frame is taken.'),
          allmulti: flag('Every multicast.'),
          alluni: flag('Every unicast.'),
          nomulti: flag('No multicast.'),
          nouni: flag('No unicast.'),
          nobcast: flag('No broadcast.'),
          mac: Type.String({ examples: ['52:54:00:00:00:01'] }),
          unicast: Type.Array(Type.String(), { description: 'Unicast addresses of the table.', examples: [[]] }),
          multicast: Type.Array(Type.String(), { description: 'Multicast addresses of the table.', examples: [[]] }),
          uniOverflow: flag('There were more unicast addresses than the table holds.'),
          multiOverflow: flag('There were more multicast addresses.'),
          vlans: orNull(Type.Array(Type.Integer()), {
            description: 'VLANs that are taken; null: all.',
            examples: [null],
          }),
        },
        { description: 'The receive filter (virtio 1.2 §5.1.6.5.1, §5.1.6.5.2, §5.1.6.5.3).' },
      ),
      rss: closed(
        {
          enabled: flag('Hashes are computed.'),
          redirect: flag('They choose the receive queue.'),
          hashTypes: whole('VIRTIO_NET_HASH_TYPE_… that the driver wants.'),
          tunnelTypes: whole('Encapsulations whose inner header is hashed.'),
          unclassifiedQueue: whole('Queue of frames without a hash.'),
          table: Type.Array(Type.Integer(), { description: 'Indirection table.', examples: [[0]] }),
          key: hex('The key of the hash.', '6d5a56da255b0ec2'),
        },
        { description: 'Steering by hash (virtio 1.2 §5.1.6.5.7).' },
      ),
      coalescing: Type.Array(
        closed({
          queue: Type.String({ examples: ['rx0'] }),
          usecs: whole('Most time between a used buffer and its notification, µs.'),
          packets: whole('Most packets before a notification.'),
        }),
        { description: 'Coalescing of notifications by queue (virtio 1.2 §5.1.6.5.9).' },
      ),
    },
    { $id: 'NicControl', description: 'State that the control queue sets.' },
  ),
);

export const GuestNicSchema = name(
  closed(
    {
      guest: Type.String({ examples: ['a'] }),
      nic: Type.String({ examples: ['net0'] }),
      backend: Type.String({ examples: ['vhost-net'] }),
      driver: Type.String({ examples: ['virtio-net'] }),
      transport: Type.String({ examples: ['pci-modern'] }),
      mac: Type.String({ examples: ['52:54:00:00:00:01'] }),
      status: closed(
        {
          value: whole('The device status byte.', 15),
          bits: Type.Array(Type.String(), { examples: [['ACKNOWLEDGE', 'DRIVER']] }),
        },
        { description: 'Device status (virtio 1.2 §2.1).' },
      ),
      features: closed(
        {
          offered: Type.Array(Type.String(), { examples: [['VIRTIO_NET_F_MAC']] }),
          negotiated: Type.Array(Type.String(), { examples: [['VIRTIO_NET_F_MAC']] }),
          offeredHex: hex('All 64 bits.', '0x130000020'),
          negotiatedHex: hex('All 64 bits.', '0x130000020'),
          bits: Type.Array(ref(FeatureSchema), {
            description: 'All bits that a document can turn on or off, and others that are offered, by bit.',
          }),
        },
        { description: 'Feature bits by specification name.' },
      ),
      config: closed(
        {
          hex: hex('The device configuration space, as long as the driver can read it.', '5254000000010100'),
          mac: orNull(Type.String(), { examples: ['52:54:00:00:00:01'] }),
          status: orNull(Type.Integer(), { description: 'Link status.', examples: [1] }),
          maxVirtqueuePairs: orNull(Type.Integer(), { examples: [null] }),
          mtu: orNull(Type.Integer(), { examples: [null] }),
          speed: orNull(Type.Integer(), { description: 'Mbit/s; 4294967295 = unknown.', examples: [null] }),
          duplex: orNull(Type.Integer(), { description: '0 half, 1 full, 255 unknown.', examples: [null] }),
        },
        { description: 'struct virtio_net_config; null where no offered bit brings the field.' },
      ),
      interrupts: closed(
        {
          mode: oneOf(['msix', 'intx', 'line'], {
            description: 'Whether MSI-X is switched on; `line`: the one of virtio-mmio.',
            examples: ['msix'],
          }),
          isr: whole('ISR status: 1 = a queue, 2 = the configuration.'),
          configVector: orNull(Type.Integer(), { description: 'null: none.', examples: [0] }),
          vectors: Type.Array(
            closed({
              vector: whole('Entry of the MSI-X table.', 1),
              address: hex('Where the message goes.', '0xfee01004'),
              data: whole('What the message says.', 38),
              masked: Type.Boolean({ examples: [false] }),
              pending: Type.Boolean({ description: 'Due, and held back by its mask.', examples: [false] }),
            }),
          ),
        },
        { description: 'How the device interrupts (virtio 1.2 §4.1.4.5, PCI 3.0 §6.8).' },
      ),
      control: orNull(ref(NicControlSchema), {
        description: 'What the driver has set through the control queue; null where the device has none.',
      }),
      bridge: Type.String({ description: 'The bridge that it is plugged into.', examples: ['br0'] }),
      linkUp: Type.Boolean({ description: 'The cable is plugged.', examples: [true] }),
      servedBy,
      socket: orNull(
        closed({
          mode: oneOf(['client', 'server'], { description: "QEMU's side.", examples: ['server'] }),
          reconnectMs: whole(
            'After a lost connection the side that connects tries again so often, ms; 0: never.',
            1000,
          ),
          inflight: Type.Boolean({ description: 'Descriptors in flight are tracked.', examples: [false] }),
          connected: Type.Boolean({ description: 'Both sides have their end.', examples: [true] }),
          connections: whole('Connections made: 1, and one for each reconnection.', 1),
          backendDescriptors: whole('What the switch has open because of it.', 10),
          backendMappings: whole('Guest memory that the switch has mapped because of it.', 2),
          closeReason: orNull(Type.String(), {
            description: 'Why the front-end closed its end; null while it is open.',
            examples: [null],
          }),
        }),
        { description: 'The vhost-user connection; null with other back-ends.', examples: [null] },
      ),
      contexts: Type.Array(Type.String(), {
        description: 'Contexts that serve this NIC.',
        examples: [['a/vcpu0', 'vhost-1201']],
      }),
      queues: Type.Array(
        closed({
          name: Type.String({ examples: ['tx0'] }),
          index: whole('Queue index.', 1),
          size: whole('Entries, as the driver set it.', 256),
          maxSize: whole('Most entries that the device offers.', 256),
          enabled: Type.Boolean({ examples: [true] }),
          msixVector: whole('MSI-X vector.', 2),
        }),
      ),
      iommu: orNull(ref(NicIommuSchema), { description: 'The IOMMU in front of the device; null without one.' }),
      migration: orNull(ref(NicMigrationSchema), {
        description: 'The last time that it was given another back-end or bridge.',
      }),
      counters: mapOf(Type.Number(), { examples: [{ kicks: 1 }] }),
    },
    { $id: 'GuestNic', description: 'A virtio-net device as driver and device have left it.' },
  ),
);

const raw = (description: string) => hex(description, '00000000');
const RingEventSchema = name(
  closed(
    {
      off: whole('Slot of the descriptor that an event is wanted for.', 3),
      wrap: whole('Its wrap counter.', 1),
      flags: Type.String({ description: 'RING_EVENT_FLAGS_…, or a number.', examples: ['RING_EVENT_FLAGS_ENABLE'] }),
      raw: raw('The 4 bytes as they lie in memory.'),
    },
    { $id: 'RingEvent', description: 'struct pvirtq_event_suppress (virtio 1.2 §2.8.10).' },
  ),
);
const DescriptorSchema = name(
  closed(
    {
      addr: hex('Buffer address.', '0x110000'),
      len: whole('Bytes.', 72),
      flags: Type.Array(Type.String(), { examples: [['VIRTQ_DESC_F_NEXT']] }),
      next: Type.Optional(whole('Split ring: next descriptor of the chain.', 1)),
      id: Type.Optional(whole('Packed ring: buffer id.', 1)),
      raw: hex('The 16 bytes as they lie in memory.', '00001100000000004800000001000100'),
    },
    { $id: 'Descriptor', description: 'A descriptor (virtio 1.2 §2.7.5, §2.8.13).' },
  ),
);

export const QueueSchema = name(
  closed(
    {
      name: Type.String({ examples: ['tx0'] }),
      index: whole('Queue index.', 1),
      enabled: Type.Boolean({ description: 'The driver has enabled the queue.', examples: [true] }),
      msixVector: whole('MSI-X vector; 65535 = none.', 2),
      addresses: closed(
        {
          desc: hex('Descriptor table or ring.', '0x100000'),
          driver: hex('Available ring; packed: event suppression of the driver.', '0x101000'),
          device: hex('Used ring; packed: event suppression of the device.', '0x102000'),
        },
        { description: 'Guest addresses of the three parts.' },
      ),
      format: orNull(oneOf(['split', 'packed']), {
        description: 'null while there is no ring: not enabled, or not in memory.',
        examples: ['split'],
      }),
      size: whole('Entries.', 256),
      desc: Type.Array(ref(DescriptorSchema), { description: 'The descriptors as they stand in memory.' }),
      avail: orNull(
        closed({
          flags: whole('Flags.'),
          idx: whole('avail.idx.', 3),
          ring: Type.Array(Type.Integer()),
          usedEvent: whole('used_event.', 2),
          raw: raw('Its bytes as they lie in memory.'),
        }),
        { description: 'The available ring of a split queue.' },
      ),
      used: orNull(
        closed({
          flags: whole('Flags.'),
          idx: whole('used.idx.', 3),
          ring: Type.Array(closed({ id: whole('Head.', 1), len: whole('Bytes written.') })),
          availEvent: whole('avail_event.', 3),
          raw: raw('Its bytes as they lie in memory.'),
        }),
        { description: 'The used ring of a split queue.' },
      ),
      driverEvent: orNull(ref(RingEventSchema), { description: 'Packed: what the driver wants to hear of.' }),
      deviceEvent: orNull(ref(RingEventSchema), { description: 'Packed: what the device wants to hear of.' }),
      device: orNull(
        closed({
          lastAvailIdx: whole('Chains taken, modulo 65536 (last_avail_idx).', 3),
          usedIdx: whole('Chains returned, modulo 65536: in a split ring the index that is published next.', 3),
          nextAvail: Type.Optional(whole('Packed: slot of the next descriptor to be taken.', 3)),
          nextAvailWrap: Type.Optional(whole('Its wrap counter.', 1)),
          nextUsed: Type.Optional(whole('Packed: slot of the next used descriptor.', 3)),
          nextUsedWrap: Type.Optional(whole('Its wrap counter.', 1)),
        }),
        { description: 'Where the device stands.' },
      ),
      suppression: orNull(
        closed({
          eventIdx: Type.Boolean({ description: 'VIRTIO_RING_F_EVENT_IDX.', examples: [true] }),
          kicksWanted: Type.Boolean({ examples: [true] }),
          interruptsWanted: Type.Boolean({ examples: [true] }),
        }),
        { description: 'What the words say now of the next entry.' },
      ),
    },
    { $id: 'Queue', description: 'A virtqueue, split or packed: what the format does not have is null.' },
  ),
);

export const MemorySchema = name(
  closed(
    {
      guest: Type.String({ examples: ['a'] }),
      address: hex('Guest-physical address of the first byte.', '0x1000'),
      length: whole('Bytes.', 16),
      hex: hex('The bytes.', '00000000000000000000000000000000'),
    },
    { $id: 'GuestMemory', description: 'Bytes of guest memory.' },
  ),
);
export const MemoryQuery = closed({
  address: Type.String({
    pattern: '^(0[xX][0-9a-fA-F]{1,13}|[0-9]{1,15})$',
    description: 'Guest-physical address, decimal or with 0x.',
    examples: ['0x1000'],
  }),
  length: Type.Integer({ minimum: 1, maximum: 1 << 30, description: 'Bytes.', examples: [16] }),
});
