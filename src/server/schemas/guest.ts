/** What can be seen of a guest: its NICs, their queues, its memory. */
import { Type } from 'typebox';
import { closed, mapOf, name, oneOf, orNull, pageOf, ref } from './reference.ts';

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
          mode: oneOf(['msix', 'intx'], { description: 'Whether MSI-X is switched on.', examples: ['msix'] }),
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
      counters: mapOf(Type.Number(), { examples: [{ kicks: 1 }] }),
    },
    { $id: 'GuestNic', description: 'A virtio-net device as driver and device have left it.' },
  ),
);

export const QueueSchema = name(
  closed(
    {
      name: Type.String({ examples: ['tx0'] }),
      index: whole('Queue index.', 1),
      size: whole('Entries.', 256),
      addresses: closed(
        {
          desc: hex('Descriptor table.', '0x100000'),
          driver: hex('Available ring.', '0x101000'),
          device: hex('Used ring.', '0x102000'),
        },
        { description: 'Guest addresses of the three parts.' },
      ),
      desc: Type.Array(
        closed({
          addr: hex('Buffer address.', '0x110000'),
          len: whole('Bytes.', 72),
          flags: Type.Array(Type.String(), { examples: [['VIRTQ_DESC_F_NEXT']] }),
          next: whole('Next descriptor of the chain.', 1),
        }),
        { description: 'The descriptor table as it stands in memory.' },
      ),
      avail: closed(
        {
          flags: whole('Flags.'),
          idx: whole('avail.idx.', 3),
          ring: Type.Array(Type.Integer()),
          usedEvent: whole('used_event.', 2),
        },
        { description: 'The available ring as it stands in memory.' },
      ),
      used: closed(
        {
          flags: whole('Flags.'),
          idx: whole('used.idx.', 3),
          ring: Type.Array(closed({ id: whole('Head.', 1), len: whole('Bytes written.') })),
          availEvent: whole('avail_event.', 3),
        },
        { description: 'The used ring as it stands in memory.' },
      ),
      device: closed({
        lastAvailIdx: whole('last_avail_idx.', 3),
        usedIdx: whole('The index that the device will publish next.', 3),
      }),
      suppression: closed({
        eventIdx: Type.Boolean({ examples: [true] }),
        kicksWanted: Type.Boolean({ examples: [true] }),
        interruptsWanted: Type.Boolean({ examples: [true] }),
      }),
    },
    { $id: 'Queue', description: 'A split virtqueue.' },
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
