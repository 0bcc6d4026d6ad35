/**
 * The topology document as users write it: the one source of its published schema, of its defaults and of the shape check
 * (validate.ts reads this schema; there is no second description of the fields). What a schema cannot say, such as
 * references, duplicates and sums, is in validate.ts.
 *
 * Only names, and nothing else, have to be written; a guest and a NIC have a name because ends of traffic name them.
 */
import { type Static, Type } from 'typebox';
import { DEFAULT_PROFILE } from '../engine/cost-profile.ts';
import { FEATURE_RULES, type FeatureRule } from './document-features.ts';
import { choice, flag, integer, list, name, object, section, size, text, unset } from './document-kit.ts';
import { ovsBridgeFields, ovsHostSection, vlanFields } from './document-ovs.ts';
import {
  ADDRESS_PATTERN,
  DURATION_PATTERN,
  MAC_PATTERN,
  NAME_PATTERN,
  PROFILE_PATTERN,
  RATE_PATTERN,
  TIME_PATTERN,
} from './units.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
/** Ranges of the fields that are texts with a unit; a schema has no word for these. Bounds included. */
export const RANGES = {
  /** A page is the least that a guest's memory can be cut into; that it suffices for its rings is checked apart. */
  memory: { min: MiB, max: 2 * GiB },
  speed: { min: 1_000_000, max: 800_000_000_000 },
  rate: { min: 1000, max: 800_000_000_000 },
  latency: { min: 0, max: 10_000_000_000 },
  recorderBytes: { min: 64 * KiB, max: GiB },
} as const;

const FIELD_OF = {
  packed: '`packed`',
  mtu: '`mtu`',
  speed: '`speed` or `duplex`',
  iommu: 'the guest’s `iommu`',
} as const;
function featureText({ text, byDefault, needs, bit }: FeatureRule): string {
  const sentence = text[0]!.toUpperCase() + text.slice(1);
  const after =
    byDefault === true || byDefault === false
      ? byDefault
        ? 'on'
        : 'off'
      : byDefault === 'legacy'
        ? 'on where the transport has a legacy interface'
        : byDefault === 'queuePairs'
          ? 'on with more than one queue pair'
          : byDefault === 'transport'
            ? 'on unless the transport is `pci-legacy`'
            : `on with ${FIELD_OF[byDefault]}`;
  const wanted = needs.map((group) => group.join(' or ')).join(', and ');
  return `Bit ${bit}: ${sentence}. Default: ${after}.${wanted === '' ? '' : ` Needs ${wanted}.`}`;
}

const Bridge = object(
  {
    name: name('Unique among the bridges, NICs and guests of its host.', 'br0'),
    datapath: choice(
      '`system`: Open vSwitch with its kernel datapath, for taps (virtio-net and vhost-net). `netdev`: with its userspace datapath and a poll-mode thread, for vhost-user. `linux`: the bridge of the Linux kernel, for taps. A NIC can be on each.',
      'system',
      ['system', 'netdev', 'linux'],
    ),
    macTableSize: integer(
      'Most MAC addresses learned (`other_config:mac-table-size`; `fdb_max_learned` of a Linux bridge).',
      8192,
      10,
      1_000_000,
    ),
    macAgingTime: integer(
      'Seconds after which a learned address is forgotten (`other_config:mac-aging-time`; `ageing_time` of a Linux bridge).',
      300,
      15,
      3600,
    ),
    userspaceTso: flag(
      'Large TCP segments and frames without a checksum may pass the userspace datapath as they are (`other_config:userspace-tso-enable`). For the netdev datapath only.',
      false,
    ),
    pmds: integer(
      'Poll-mode threads of the netdev datapath (`other_config:pmd-cpu-mask`), each on a core of its own. They serve all netdev bridges of the host: the largest number counts. Receive queues are spread over them, and each thread sends to a guest by one queue of its own.',
      1,
      1,
      16,
    ),
    ...ovsBridgeFields(),
  },
  { description: 'A bridge: of Open vSwitch, or of the Linux kernel.' },
);

const HostNic = object(
  {
    name: name('Unique among the bridges, NICs and guests of its host.', 'eth0'),
    speed: text(RATE_PATTERN, 'Line rate.', { default: '25Gbps', examples: ['25Gbps', '10Gbps'] }),
    bridge: Type.Optional(name("The bridge it is a port of. Default: the host's first bridge.", 'br0')),
    queues: integer(
      'Receive queues, over which RSS spreads flows by addresses and ports. With a kernel bridge each has a softirq on a core of its own, as long as there are any; with a userspace bridge the poll-mode threads share them (`n_rxq`).',
      1,
      1,
      64,
    ),
    rxRing: integer('Descriptors of each receive ring, a power of two.', 1024, 64, 4096),
    txRing: integer('Descriptors of the transmit ring, a power of two.', 1024, 64, 4096),
    maxFramesPerSecond: integer(
      'Frames per second that the NIC carries each way, whatever the line has room for (published: 36 million of a 40G XL710, 12.5 million sent by an 82599 without tuning). 0: as many as the line.',
      0,
      0,
      1_000_000_000,
    ),
    offloads: section(
      {
        txChecksum: flag('The NIC writes the checksums of frames that it sends (`tx-checksumming`).'),
        rxChecksum: flag('The NIC checks the checksums of frames that it receives (`rx-checksumming`).'),
        tso: unset(
          'The NIC cuts large TCP segments into frames (`tcp-segmentation-offload`). Needs `txChecksum`. Default: what `txChecksum` is.',
        ),
        gro: flag('The host merges received segments before its datapath sees them (`generic-receive-offload`).'),
        lro: flag('The NIC merges received segments by itself (`large-receive-offload`).', false),
      },
      {
        description: 'What the NIC does for the CPUs of the host, as `ethtool -k` names it.',
        examples: [{ tso: false }],
      },
    ),
    plugged: flag(
      'It is a port of its bridge. Where not, it waits for `ovs-vsctl add-port`. Always true with a bridge of Linux.',
    ),
    ...vlanFields(),
  },
  { description: 'A physical NIC of the host.' },
);

const coalescingOf = (which: string) =>
  section(
    {
      usecs: integer(
        `Microseconds that a notification may wait (\`${which}-usecs\`); 0 = none, whatever \`packets\` says.`,
        0,
        0,
        1_000_000,
      ),
      packets: integer(
        `Packets after which it is sent before that time is over (\`${which}-frames\`); 0 = time alone counts.`,
        0,
        0,
        65_535,
      ),
    },
    {
      description: `Of the ${which === 'rx' ? 'receive' : 'transmit'} queues.`,
      examples: [{ usecs: 50, packets: 32 }],
    },
  );

const GuestNic = object(
  {
    name: name('Unique among the NICs of its guest.', 'net0'),
    bridge: Type.Optional(
      name(
        "The bridge it is plugged into. Default: the host's first bridge with the datapath that the backend needs.",
        'br0',
      ),
    ),
    backend: choice('What serves the device on the host.', 'vhost-net', ['virtio-net', 'vhost-net', 'vhost-user']),
    driver: choice(
      "`virtio-net`: the Linux kernel driver with NAPI. `virtio-pmd`: DPDK's polling driver, which takes its vCPU whole. `none`: no driver; a client is the driver, through guest memory and the registers (docs/driver-none.md).",
      'virtio-net',
      ['virtio-net', 'virtio-pmd', 'none'],
    ),
    mac: Type.Optional(
      Type.String({
        pattern: MAC_PATTERN,
        description:
          'Unicast, unique in the document. Default: 52:54:00:00:00:01 for the first guest NIC of the document and so on, leaving out addresses that the document names.',
        examples: ['52:54:00:00:00:01'],
      }),
    ),
    addresses: list(
      Type.String({
        pattern: ADDRESS_PATTERN,
        description: 'IPv4 or IPv6 address with prefix length.',
        examples: ['10.0.0.1/24', 'fd00::1/64'],
      }),
      'IPv4 and IPv6 addresses, each unique in the document. A complete document has those of IPv4 first.',
      16,
    ),
    queueSize: integer(
      'Entries of each receive and transmit virtqueue. A power of two from 32 where the ring is split (virtio 1.2 §2.7), any number where `packed` is on; a polling driver needs one burst of 32, and the driver `none` may have any power of two. QEMU itself ends at 1024.',
      256,
      1,
      32_768,
    ),
    queuePairs: integer('Queue pairs of the device. More than one need the control queue (VIRTIO_NET_F_MQ).', 1, 1, 16),
    packed: flag(
      'The device offers packed virtqueues (VIRTIO_F_RING_PACKED). Whether they come to be is for the back-end: vhost-net of Linux has none.',
      false,
    ),
    transport: Type.Optional(
      Type.Enum(['pci-modern', 'pci-transitional', 'pci-legacy', 'mmio'], {
        type: 'string',
        description:
          "`pci-modern`: virtio over PCI without the legacy interface (QEMU's `disable-legacy=on`). `pci-transitional`: with it. `pci-legacy`: nothing but it (`disable-modern=on`). `mmio`: virtio-mmio, version 2, with one interrupt. The polling driver takes the first two. StratoVirt's microVM has `mmio` and its standard VM `pci-modern`, for all NICs of a guest. Default: `pci-modern`; with StratoVirt `mmio`, unless a NIC of the guest needs PCI.",
        examples: ['pci-modern'],
      }),
    ),
    vectors: Type.Optional(
      Type.Integer({
        description:
          'MSI-X vectors; 0 = none, and an interrupt line (INTx). With fewer than queues some share. Default: two for each queue pair and two more; virtio-mmio has none.',
        minimum: 0,
        maximum: 2048,
        examples: [4],
      }),
    ),
    mtu: Type.Optional(
      Type.Integer({
        description:
          "The MTU that the device gives the driver (QEMU's `host_mtu`). Default: none, and no VIRTIO_NET_F_MTU.",
        minimum: 68,
        maximum: 65_535,
        examples: [1450],
      }),
    ),
    speed: Type.Optional(
      Type.Integer({
        description:
          'Speed that the device says it has, Mbit/s. Default: none. With `duplex` VIRTIO_NET_F_SPEED_DUPLEX.',
        minimum: 0,
        maximum: 2_147_483_647,
        examples: [10_000],
      }),
    ),
    duplex: Type.Optional(
      Type.Enum(['half', 'full'], {
        type: 'string',
        description: 'Duplex mode that the device says it has. Default: none.',
        examples: ['full'],
      }),
    ),
    ioeventfd: flag(
      'Kicks are answered in the kernel by an eventfd. Only the virtio-net backend works without: `false` has QEMU answer them in userspace.',
    ),
    tx: choice(
      "When the virtio-net backend transmits after a kick. `bh`: at once, in a bottom half of QEMU's main loop. `timer`: when `txTimer` has run out, or with the next kick before that; kicks are off meanwhile. QEMU's property `tx`.",
      'bh',
      ['bh', 'timer'],
    ),
    txTimer: integer(
      'How long a transmission waits with `"tx": "timer"`, nanoseconds (QEMU\'s `x-txtimer`).',
      150_000,
      0,
      1_000_000_000,
    ),
    pollUs: integer(
      "How long a vhost-net worker polls its rings and the tap before it asks to be woken, microseconds; 0: not at all. QEMU's netdev property `poll-us`, VHOST_SET_VRING_BUSYLOOP_TIMEOUT.",
      0,
      0,
      1_000_000,
    ),
    vhostUser: Type.Optional(
      object(
        {
          mode: choice(
            'Which side of the socket the VMM is. `server`: it listens, and the switch connects (`dpdkvhostuserclient`). `client`: the switch listens (`dpdkvhostuser`).',
            'server',
            ['server', 'client'],
          ),
          reconnectMs: integer(
            'After a lost connection the side that connects tries again so long after the last time, ms; 0: never.',
            1000,
            0,
            3_600_000,
          ),
          inflight: flag(
            'The back-end notes in shared memory what it has taken from the rings, so that its successor can go on after a crash (VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD).',
            false,
          ),
        },
        {
          description: 'The socket of the vhost-user back-end. Default: the VMM listens, nothing is noted.',
          examples: [{ mode: 'client' }],
        },
      ),
    ),
    features: section(Object.fromEntries(FEATURE_RULES.map((rule) => [rule.name, unset(featureText(rule))])), {
      description:
        'Feature bits: whether the device offers them, as far as the back-end has them. A bit that is not named and lacks what it needs is off; one that is turned on and lacks it is a fault. Bits that follow from other fields are in a complete document only where they were turned off.',
      examples: [{ VIRTIO_RING_F_EVENT_IDX: false }],
    }),
    coalescing: Type.Optional(
      object(
        { rx: coalescingOf('rx'), tx: coalescingOf('tx') },
        {
          description:
            'How long used buffer notifications may wait: what `ethtool -C` asks the device for when the interface is up. Needs VIRTIO_NET_F_NOTF_COAL, which the virtio-net backend has, and the kernel driver. Default: nothing is asked, and nothing waits.',
          examples: [{ rx: { usecs: 50, packets: 32 } }],
        },
      ),
    ),
    tapQueueLength: integer('`txqueuelen` of the tap, frames. Without effect for vhost-user.', 1000, 1, 65_536),
    plugged: flag(
      'It is a port of its bridge, `guest.nic`. Where not, its tap or socket is there, and waits for `ovs-vsctl add-port`. Always true with a bridge of Linux.',
    ),
    ...vlanFields(),
  },
  { description: 'A virtio-net device of a guest.' },
);

const Guest = object(
  {
    name: name('Unique among the bridges, NICs and guests of its host.', 'a'),
    vmm: choice(
      '`qemu`: QEMU. `stratovirt`: StratoVirt, with split rings of 256 to 4096 entries, notifications through eventfds always, and the feature bits that its devices have.',
      'qemu',
      ['qemu', 'stratovirt'],
    ),
    vcpus: Type.Optional(
      Type.Integer({
        description:
          'Virtual CPUs, over which the queue pairs of a NIC are spread. The kernel driver uses as many pairs as there are vCPUs; those without a pair have nothing to do. Default: the queue pairs of the NIC that has most.',
        minimum: 1,
        maximum: 64,
        examples: [1],
      }),
    ),
    memory: size(
      "RAM, a multiple of 4 KiB. Must hold the rings and buffers of the guest's NICs. Default: 16MiB, or as many MiB as they need.",
      '16MiB',
      false,
    ),
    app: choice(
      '`stack`: the kernel’s IP stack with sockets and ICMP echo. `bridge`: the kernel forwards between its NICs, 0 and 1, 2 and 3 and so on, as bridges with two ports do. `xdp-tx`: an XDP program of the kernel’s driver swaps the MAC addresses of every frame and sends it back by the same NIC, before there is an skb; the receive offloads have to be off, or the driver has to be able to switch them off (VIRTIO_NET_F_CTRL_GUEST_OFFLOADS), and where `queuePairs` are at least twice `vcpus` each vCPU has a send queue of its own. The others are DPDK programs as testpmd has them, for guests whose NICs all have the driver virtio-pmd: `macswap` and `io` forward every frame, `rxonly` takes frames and frees them, `txonly` looks at no receive queue and sends what UDP traffic from its NICs asks for, in bursts of 32.',
      'stack',
      ['stack', 'bridge', 'xdp-tx', 'macswap', 'io', 'txonly', 'rxonly'],
    ),
    haltPollNs: integer(
      'Halt polling (`halt_poll_ns` of the kernel module kvm, whose own default is 200000): for so long at most the thread of a halted vCPU looks for a wake-up before it sleeps, nanoseconds. How long it does follows from how long halts last. A wake-up that it finds comes earlier, and its time is busy time. 0 = it sleeps at once.',
      0,
      0,
      1_000_000_000,
    ),
    postedInterrupts: flag(
      'Interrupts reach a running vCPU without an exit (posted-interrupt processing of the CPU; interrupts of devices that are assigned to a guest are not posted).',
      false,
    ),
    iommu: Type.Optional(
      object(
        {
          mode: choice(
            '`strict`: the guest’s kernel maps each buffer, and unmapping invalidates it at once, which is an exit to userspace (`iommu.strict=1`). `lazy`: unmapped buffers are invalidated together, when 256 wait or after 10 ms. `passthrough`: guest-physical addresses are I/O addresses (`iommu.passthrough=1`).',
            'strict',
            ['strict', 'lazy', 'passthrough'],
          ),
          cachingMode: unset(
            'QEMU’s `caching-mode`: mapping a buffer is invalidated, too, with an exit of its own. Linux gives batching up then, so that `lazy` excludes it. Default: true, but with `lazy` false.',
          ),
        },
        {
          description:
            'QEMU’s intel-iommu with `device-iotlb=on`. The NICs of the guest have `iommu_platform=on` and `ats=on`, i.e. VIRTIO_F_ACCESS_PLATFORM, and the transport `pci-modern`; one with the bit turned off reaches memory around the IOMMU. Only with QEMU. Default: none.',
          examples: [{ mode: 'strict' }],
        },
      ),
    ),
    hugepages: Type.Optional(
      Type.Enum(['4KiB', '2MiB', '1GiB'], {
        type: 'string',
        description:
          'Pages of the host that back the guest’s RAM (`-object memory-backend-file,mem-path=/dev/hugepages`). Hugepages are taken from the host’s `hugepages`, RAM being rounded up to whole ones. Default: `2MiB` with a vhost-user NIC, whose back-end shares the memory, where there is as much RAM, else `4KiB`.',
        examples: ['2MiB'],
      }),
    ),
    dpdk: Type.Optional(
      object(
        {
          hugepages: choice(
            'Pages of the guest that hold the memory of its DPDK program: rings, mbufs. With an `iommu` VFIO maps each one for the devices. `4KiB`: the program runs with `--no-huge`, and its addresses are I/O virtual ones, which takes an `iommu`.',
            '2MiB',
            ['4KiB', '2MiB', '1GiB'],
          ),
          mempool: Type.Optional(
            Type.Integer({
              description:
                'mbufs of the program’s pool (testpmd’s `--total-num-mbufs`), shared by all its receive and transmit rings. With too few rings stay short, and are counted in rx_mbuf_allocation_errors. Default: as many as the rings hold, and two bursts of 32 for each lcore.',
              minimum: 32,
              maximum: 1_000_000,
              examples: [4096],
            }),
          ),
        },
        {
          description:
            'The DPDK program of a guest whose NICs have the driver virtio-pmd. Default: hugepages of 2 MiB.',
          examples: [{ hugepages: '2MiB' }],
        },
      ),
    ),
    nics: list(GuestNic, 'Virtio-net devices.', 64),
  },
  { description: 'A virtual machine.' },
);

/** linux drivers/vhost/net.c, VHOST_NET_PKT_WEIGHT. */
export const VHOST_PACKET_WEIGHT = 256;

const Host = object(
  {
    name: text(NAME_PATTERN, 'Unique in the document. Default: `h1` for the first host and so on.', {
      examples: ['h1'],
    }),
    cores: integer(
      'Cores. Each poll-mode thread (one per host with a netdev bridge, and one per guest with virtio-pmd) needs one of its own, and everything else at least one.',
      8,
      1,
      256,
    ),
    hugepages: Type.Optional(
      object(
        {
          '2MiB': integer('Pages of 2 MiB (`hugepagesz=2M hugepages=…`).', 0, 0, 1_000_000),
          '1GiB': integer('Pages of 1 GiB.', 0, 0, 1000),
          socketMem: size(
            'What Open vSwitch with DPDK takes when it starts, on a host with a netdev bridge (`other_config:dpdk-socket-mem`): pages of 1 GiB as long as there are any, then of 2 MiB. A multiple of 2 MiB.',
            '1GiB',
          ),
        },
        {
          description:
            'Hugepages of the host. Open vSwitch with DPDK and the RAM of guests are taken from them; where they do not suffice, the document is refused. Default: as many as anybody asks for.',
          examples: [{ '2MiB': 1024, '1GiB': 0 }],
        },
      ),
    ),
    iommu: flag(
      'The NICs of netdev bridges are bound to vfio-pci behind the host’s IOMMU (`intel_iommu=on`): they reach the mbufs that the switch has mapped, and a frame for anything else is dropped. Without, vfio-pci works in its no-IOMMU mode.',
      false,
    ),
    vhostPacketWeight: integer(
      'Frames that a vhost worker carries in one direction before the other one has its turn (VHOST_NET_PKT_WEIGHT of the host’s kernel). 0: 512 KiB alone end a turn, as in kernels before commit db688c24eada of 2018: a flood of small frames towards a guest then starves what the guest sends. For vhost-net.',
      VHOST_PACKET_WEIGHT,
      0,
      65_536,
    ),
    ovs: ovsHostSection(),
    bridges: list(Bridge, 'Bridges. Default: `br0` with the system datapath.', 64, { default: [{ name: 'br0' }] }),
    nics: list(HostNic, 'Physical NICs.', 64),
    guests: list(Guest, 'Guests.', 1024),
  },
  { description: 'An emulated host.' },
);

const Link = object(
  {
    name: Type.Optional(name('Unique among the links. Default: `link1` for the first link and so on.', 'wire')),
    ends: Type.Array(Type.String({ examples: ['h1/eth0'], maxLength: 127 }), {
      description: 'The two NICs, as `host/nic`. A NIC is in one link at most.',
      minItems: 2,
      maxItems: 2,
      examples: [['h1/eth0', 'h2/eth0']],
    }),
    rate: text(RATE_PATTERN, "Line rate. Default: the slower NIC's speed.", { examples: ['10Gbps'] }),
    latency: text(DURATION_PATTERN, 'Time a bit takes from end to end, at most 10 s.', {
      default: '0ns',
      examples: ['10us'],
    }),
    loss: Type.Optional(
      Type.Number({ description: 'Probability of losing a frame.', default: 0, minimum: 0, maximum: 1 }),
    ),
  },
  { description: 'A cable between two physical NICs.' },
);

export const TopologyDocument = object(
  {
    name: Type.Optional(name('Where the document is put under a name, this must be that name or be left out.', 't1')),
    seed: integer('Seed of every random stream of the run.', 1, 0, 4_294_967_295),
    debug: flag(
      'Clients may write guest memory and the registers of virtio devices, as if they were the guest. What they write is never trusted.',
      false,
    ),
    clock: section(
      {
        mode: choice(
          '`work`: virtual time goes as fast as the emulator can. `real`: it is paced by the wall clock.',
          'work',
          ['work', 'real'],
        ),
        factor: Type.Optional(
          Type.Number({
            description: 'For mode `real`: virtual seconds per wall second.',
            default: 1,
            minimum: 0.000001,
            maximum: 1000,
          }),
        ),
      },
      { description: 'How virtual time advances.' },
    ),
    epoch: text(TIME_PATTERN, 'The date that virtual time 0 is exported as.', {
      default: '2026-01-01T00:00:00Z',
      examples: ['2026-01-01T00:00:00Z'],
    }),
    recorder: section(
      {
        events: integer('Events held, a power of two.', 4_194_304, 2 ** 12, 2 ** 26),
        bytes: size('Frame bytes held, a power of two from 64 KiB to 1 GiB.', '256MiB'),
        descriptors: flag(
          'Also keep the descriptors of every chain that a driver makes available, for captures with `view=events`. They take event and byte space from the frames.',
          false,
        ),
      },
      { description: 'What captures and journeys can look back on; the oldest is overwritten.' },
    ),
    costProfile: text(
      PROFILE_PATTERN,
      'The kind of host that virtual times are computed for: a name of `GET /v1/cost-profiles`.',
      {
        default: DEFAULT_PROFILE,
        examples: [DEFAULT_PROFILE],
      },
    ),
    costs: Type.Optional(
      Type.Unsafe<Record<string, number>>({
        type: 'object',
        description: 'Overrides of the cost profile: name of the cost to value, in its unit.',
        default: {},
        maxProperties: 1000,
        additionalProperties: Type.Number({ minimum: 0, maximum: 1_000_000_000 }),
      }),
    ),
    hosts: Type.Array(Host, { description: 'At least one host.', minItems: 1, maxItems: 64 }),
    links: list(Link, 'Cables between NICs.', 1024),
  },
  {
    $id: 'TopologyDocument',
    description: 'A topology: hosts with bridges, NICs and guests, and the links between NICs.',
    examples: [
      {
        hosts: [
          {
            guests: [
              { name: 'a', nics: [{ name: 'net0', addresses: ['10.0.0.1/24'] }] },
              { name: 'b', nics: [{ name: 'net0', addresses: ['10.0.0.2/24'] }] },
            ],
          },
        ],
      },
    ],
  },
);

/** What a user writes. A complete document, with every default written out, is one too. */
export type TopologyDocument = Static<typeof TopologyDocument>;
