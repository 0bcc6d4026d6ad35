/**
 * The published points that the emulator can express, each as a scenario. The list was made before any of them was run; a point is
 * not taken out, and its scenario not changed, because of its result. Where a source turned out to say something else, the scenario
 * was corrected, and history.ts says so. Where a source says nothing of something, the document says nothing of it either and has the
 * default.
 */
import type { JobTraffic } from '../src/lab/job/job.ts';
import {
  frames,
  LOSSLESS,
  losslessMpps,
  NOT_STATED,
  OVERLOAD,
  only,
  overloadMpps,
  receivedMpps,
  runOf,
  type Scenario,
  tcpGbps,
} from './scenario.ts';
import { guestAndWire, twoGuests, twoHosts, wireGuestWire, wireToWire } from './setups.ts';

/** Xeon E5-2620 v3 and E5-2440 v2. */
const SIG21_GHZ = 2.4;
/** Xeon E5-2690 v4. */
const OVSPERF_GHZ = 2.6;
const FEEDS = 'a default of the cost table was derived from it';
const BOUND = 'the source gives a lower bound, not a measurement';

/** Every flow is in the EMC soon, as it is after seconds of traffic with the usual probability of 1 in 100. */
const EMC_AT_ONCE = { 'emc-insert-inv-prob': '1' };

/** Section 5.2: the kernel datapath has RSS over all 16 hyperthreads. */
const SIG21_KERNEL = { backend: 'vhost-net', speed: '25Gbps', queues: 16 } as const;

// ---- SIGCOMM 2021 ---------------------------------------------------------------------------------------------------
const sig21: readonly Scenario[] = [
  {
    id: 'sig21-f8a-k1',
    clockGhz: SIG21_GHZ,
    setup: 'kernel datapath between two NICs, one flow, so one softirq',
    unscored: `${FEEDS} (ovs_kernel_per_packet)`,
    asks: [
      {
        document: wireToWire({ datapath: 'system', speed: '25Gbps' }),
        traffic: [frames('eth0', 'eth1', 64)],
        measure: LOSSLESS,
      },
    ],
    value: losslessMpps,
  },
  {
    id: 'sig21-f8a-d1000',
    clockGhz: SIG21_GHZ,
    setup: 'netdev datapath between two NICs, one poll-mode thread, flows by source address',
    asks: [
      {
        document: wireToWire({ datapath: 'netdev', speed: '25Gbps', otherConfig: EMC_AT_ONCE }),
        traffic: [frames('eth0', 'eth1', 64, 1000)],
        measure: LOSSLESS,
      },
    ],
    value: losslessMpps,
  },
  {
    id: 'sig21-f8b-k1000',
    clockGhz: SIG21_GHZ,
    setup:
      'kernel datapath, RSS over all 16 processors, tap, one vhost worker, a polling guest; rings of 1024; hyperthreads are cores here',
    asks: [
      {
        document: wireGuestWire({ ...SIG21_KERNEL, queueSize: 1024, switched: 'ports' }),
        traffic: [frames('eth0', 'eth1', 64, 1000)],
        measure: LOSSLESS,
      },
    ],
    value: losslessMpps,
  },
  {
    id: 'sig21-f8b-d1000',
    clockGhz: SIG21_GHZ,
    setup: 'netdev datapath, one poll-mode thread, a polling guest; rings of 1024',
    asks: [
      {
        document: wireGuestWire({
          backend: 'vhost-user',
          speed: '25Gbps',
          queueSize: 1024,
          switched: 'ports',
          emcAtOnce: true,
        }),
        traffic: [frames('eth0', 'eth1', 64, 1000)],
        measure: LOSSLESS,
      },
    ],
    value: losslessMpps,
  },
  {
    id: 'sig21-s32-vu',
    clockGhz: SIG21_GHZ,
    setup: 'netdev datapath, one poll-mode thread, a guest that only receives',
    unscored: "the source's switch reads its NIC through AF_XDP, here through DPDK",
    asks: [
      {
        document: wireGuestWire({
          backend: 'vhost-user',
          speed: '25Gbps',
          queueSize: 1024,
          switched: 'ports',
          app: 'rxonly',
        }),
        traffic: [frames('eth0', 'a/net0', 64)],
        measure: LOSSLESS,
      },
    ],
    value: losslessMpps,
  },
  {
    id: 'sig21-f7b-vu0',
    clockGhz: SIG21_GHZ,
    setup: 'two Linux guests on a netdev bridge, one connection, no offloads',
    unscored: `${FEEDS} (checksum_per_byte)`,
    asks: [
      {
        document: twoGuests({ backend: 'vhost-user', datapath: 'netdev', features: { VIRTIO_NET_F_CSUM: false } }),
        traffic: [tcp(1)],
      },
    ],
    value: tcpGbps,
  },
  {
    id: 'sig21-f7b-vuc',
    clockGhz: SIG21_GHZ,
    setup: 'the same with checksum offload, without segmentation',
    unscored: `${FEEDS} (checksum_per_byte)`,
    asks: [
      {
        document: twoGuests({
          backend: 'vhost-user',
          datapath: 'netdev',
          userspaceTso: true,
          features: { VIRTIO_NET_F_HOST_TSO4: false, VIRTIO_NET_F_HOST_TSO6: false },
        }),
        traffic: [tcp(1)],
      },
    ],
    value: tcpGbps,
  },
];

// ---- ovs_perf -------------------------------------------------------------------------------------------------------
/** The guest's testpmd forwards with two queues and two cores. The table of 2017 is of Open vSwitch 2.7 and 2.8, without output batching. */
function ovsPerf(speed: string, flows: number, outputBatching: boolean) {
  return wireGuestWire({
    backend: 'vhost-user',
    speed,
    queueSize: 256,
    queuePairs: 2,
    switched: flows,
    emcAtOnce: true,
    outputBatching,
  });
}
const ONE_CORE = "one poll-mode thread: the source's two are the two hyperthreads of one core";
const overload = (id: string, flows: number, frameSize: number): Scenario => ({
  id,
  clockGhz: OVSPERF_GHZ,
  setup: `10 Gb/s offered, what comes back; a rule for each flow and direction; Open vSwitch before 2.9; ${ONE_CORE}`,
  asks: [
    {
      document: ovsPerf('10Gbps', flows, false),
      traffic: [frames('eth0', 'eth0', frameSize, flows)],
      measure: OVERLOAD,
    },
  ],
  value: overloadMpps,
});
const zeroLoss = (id: string, flows: number, frameSize: number): Scenario => ({
  id,
  clockGhz: OVSPERF_GHZ,
  setup: `40 Gb/s, zero loss; a rule for each flow and direction; ${ONE_CORE}`,
  asks: [
    {
      document: ovsPerf('40Gbps', flows, true),
      traffic: [frames('eth0', 'eth0', frameSize, flows)],
      measure: LOSSLESS,
    },
  ],
  value: losslessMpps,
});
const ovsperf: readonly Scenario[] = [
  overload('ovsperf-10f-128', 10, 128),
  overload('ovsperf-10f-256', 10, 256),
  overload('ovsperf-10f-1514', 10, 1514),
  overload('ovsperf-1000f-64', 1000, 64),
  overload('ovsperf-1000f-256', 1000, 256),
  overload('ovsperf-1000f-1514', 1000, 1514),
  {
    id: 'ovsperf-kernel-64',
    clockGhz: OVSPERF_GHZ,
    setup:
      '10 Gb/s offered, what comes back; kernel datapath, tap, one vhost worker of a kernel before 4.17 (RHEL 7.4: 3.10), a polling guest',
    asks: [
      {
        document: wireGuestWire({
          backend: 'vhost-net',
          speed: '10Gbps',
          queueSize: 256,
          switched: 1000,
          vhostPacketWeight: 0,
        }),
        traffic: [frames('eth0', 'eth0', 64, 1000)],
        // forty turns of the worker
        measure: { ...OVERLOAD, duration: '200ms' },
      },
    ],
    value: overloadMpps,
  },
  {
    ...overload('ovsperf-dpdk-vmrx', 1000, 64),
    setup: `as ovsperf-1000f-64, frames that the guest receives; ${ONE_CORE}`,
    value: (results) => {
      const { received, dropped } = runOf(results);
      // what was lost behind the guest's receive ring
      const behind = (dropped['guest.tx_full'] ?? 0) + (dropped['nic.tx_ring_full'] ?? 0);
      return overloadMpps(results) * (received === 0 ? 1 : (received + behind) / received);
    },
  },
  zeroLoss('ovsperf0-10f-64', 10, 64),
  zeroLoss('ovsperf0-10f-1514', 10, 1514),
  zeroLoss('ovsperf0-1000f-64', 1000, 64),
  zeroLoss('ovsperf0-1000f-1514', 1000, 1514),
];

// ---- bounds -----------------------------------------------------------------------------------------------------
const rhelnic = (id: string, frameSize: number, threads: number, queues: number): Scenario => ({
  id,
  clockGhz: NOT_STATED,
  setup: `${threads} poll-mode threads on cores of their own, ${queues === 1 ? 'one queue' : `${queues} queues`}, zero loss`,
  unscored: BOUND,
  asks: [
    {
      document: wireGuestWire({
        backend: 'vhost-user',
        speed: '25Gbps',
        queueSize: 1024,
        switched: 'ports',
        pmds: threads,
        queuePairs: queues,
        emcAtOnce: true,
        ...(queues === 1 ? {} : { queues }),
      }),
      traffic: [frames('eth0', 'eth1', frameSize, queues === 1 ? 1 : 64)],
      measure: LOSSLESS,
    },
  ],
  value: losslessMpps,
});
const bounds: readonly Scenario[] = [
  rhelnic('rhelnic-dpdk-64', 64, 2, 1),
  rhelnic('rhelnic-dpdk-1500', 1500, 2, 1),
  rhelnic('rhelnic-dpdk-64-4p', 64, 4, 2),
  {
    id: 'rhelnic-kernel-1500',
    clockGhz: NOT_STATED,
    setup: 'kernel datapath, tap, one vhost worker, a polling guest, zero loss',
    unscored: BOUND,
    asks: [
      {
        document: wireGuestWire({ backend: 'vhost-net', speed: '25Gbps', queueSize: 1024, switched: 'ports' }),
        traffic: [frames('eth0', 'eth1', 1500)],
        measure: LOSSLESS,
      },
    ],
    value: losslessMpps,
  },
];

// ---- commits of Open vSwitch ------------------------------------------------------------------------------------
const emc = (id: string, probability: string, what: string): Scenario => ({
  id,
  clockGhz: NOT_STATED,
  setup: `netdev datapath between two NICs, one flow, ${what}`,
  unscored: `${FEEDS} (emc_pass, emc_miss_to_dpcls)`,
  asks: [
    {
      document: wireToWire({
        datapath: 'netdev',
        speed: '10Gbps',
        otherConfig: { 'emc-insert-inv-prob': probability },
      }),
      traffic: [frames('eth0', 'eth1', 64)],
      measure: LOSSLESS,
    },
  ],
  value: losslessMpps,
});
/** Xeon E5-2690 v3, the one of that number with 12 cores. */
const OVSF7DC_GHZ = 2.6;
const RSS_QUEUES = 12;
const ovs: readonly Scenario[] = [
  emc('ovsd262-emcon', '1', 'in the EMC'),
  emc('ovsd262-emcoff', '0', 'without the EMC'),
  {
    id: 'ovs86bd-ind',
    clockGhz: NOT_STATED,
    setup:
      'two Linux guests on a netdev bridge, one connection, indirect descriptors; OVS 2.7 offers neither CSUM nor TSO',
    asks: [
      {
        document: twoGuests({
          backend: 'vhost-user',
          datapath: 'netdev',
          features: { VIRTIO_NET_F_CSUM: false, VIRTIO_RING_F_INDIRECT_DESC: true },
        }),
        traffic: [tcp(1)],
      },
    ],
    value: tcpGbps,
  },
  {
    id: 'ovs86bd-pvp',
    clockGhz: NOT_STATED,
    setup: 'netdev datapath, one poll-mode thread, a polling guest, one flow; rings of 256 (QEMU 2.5)',
    asks: [
      {
        document: wireGuestWire({
          backend: 'vhost-user',
          speed: '10Gbps',
          queueSize: 256,
          switched: 'ports',
          emcAtOnce: true,
        }),
        traffic: [frames('eth0', 'eth1', 64)],
        measure: LOSSLESS,
      },
    ],
    value: losslessMpps,
  },
  {
    id: 'ovsf7dc-many',
    clockGhz: OVSF7DC_GHZ,
    setup:
      'kernel datapath between two NICs of 40 Gb/s, 12 receive queues on 12 cores, one OpenFlow flow; what comes out',
    asks: [
      {
        document: wireToWire({ datapath: 'system', speed: '40Gbps', queues: RSS_QUEUES, cores: 2 * RSS_QUEUES }),
        traffic: [frames('eth0', 'eth1', 64, 1024)],
        measure: { ...OVERLOAD, duration: '5ms' },
      },
    ],
    value: overloadMpps,
  },
];

// ---- vhost-net --------------------------------------------------------------------------------------------------
const VHWAKE_GBPS = 9.59;
const vhostNet: readonly Scenario[] = [
  {
    id: 'tunb-64',
    clockGhz: NOT_STATED,
    setup:
      'pktgen in a Linux guest, vhost-net, tap, a Linux bridge, a NIC. What the host does from the tap to the NIC is in the cost that was derived; how, the source does not say, and here a bridge comes on top',
    unscored: `${FEEDS} (vhost_net_tx_per_packet)`,
    asks: [
      {
        document: guestAndWire('vhost-net', 'linux', '40Gbps'),
        traffic: [{ kind: 'udp', from: 'a/net0', to: 'eth0', frameSize: 64, generator: 'pktgen', duration: '10ms' }],
      },
    ],
    value: receivedMpps,
  },
  {
    id: 'vhwake-1',
    clockGhz: NOT_STATED,
    setup:
      "a Linux guest sends one connection with TSO over 10 Gb/s; the busy share of its vhost worker, for each bit, at the source's rate. The receiver is a guest of another host",
    asks: [{ document: twoHosts('vhost-net', '10Gbps'), traffic: [{ ...tcp(1), from: 'h1/a/net0', to: 'h2/b/net0' }] }],
    value: (results) => {
      const worker = runOf(results).contexts.filter((c) => c.name.includes('vhost') && c.name.includes('h1'));
      if (worker.length !== 1) throw new Error(`one vhost worker of h1 is expected, not ${worker.length}`);
      return (100 * worker[0]!.busyRatio * VHWAKE_GBPS) / tcpGbps(results);
    },
  },
  {
    id: 'virtwin-sq',
    clockGhz: NOT_STATED,
    setup: 'two Linux guests on a Linux bridge, 8 connections, one queue pair',
    asks: [{ document: twoGuests({ backend: 'vhost-net', datapath: 'linux' }), traffic: [tcp(8)] }],
    value: tcpGbps,
  },
];

// ---- guests with Linux, vhost-net and vhost-user beside each other -----------------------------------------------
/** 64 bytes of payload and the headers of UDP, IPv4 and Ethernet with FCS. */
const IPERF_64 = 64 + 8 + 20 + 14 + 4;
const linuxBridge = twoGuests({ backend: 'vhost-net', datapath: 'linux' });
const ovsDpdk = twoGuests({ backend: 'vhost-user', datapath: 'netdev' });
const cx5: readonly Scenario[] = [
  {
    id: 'cx5-vn-tcp',
    clockGhz: NOT_STATED,
    setup: 'two Linux guests, vhost-net, a Linux bridge, 4 connections',
    asks: [{ document: linuxBridge, traffic: [tcp(4)] }],
    value: tcpGbps,
  },
  {
    id: 'cx5-vn-pps',
    clockGhz: NOT_STATED,
    setup: 'two Linux guests, vhost-net, a Linux bridge, datagrams of 64 bytes from a socket',
    asks: [{ document: linuxBridge, traffic: [datagrams()] }],
    value: receivedMpps,
  },
  {
    id: 'cx5-od-pps',
    clockGhz: NOT_STATED,
    setup: 'the same with vhost-user on a netdev bridge',
    asks: [{ document: ovsDpdk, traffic: [datagrams()] }],
    value: receivedMpps,
  },
  {
    id: 'cx5-vn-lat',
    clockGhz: NOT_STATED,
    setup:
      'two Linux guests, vhost-net, a Linux bridge, TCP transactions of 1 byte; half of a round trip (qperf tcp_lat)',
    asks: [{ document: linuxBridge, traffic: [transactions()] }],
    value: halfRoundTrip,
  },
  {
    id: 'cx5-od-lat',
    clockGhz: NOT_STATED,
    setup: 'the same with vhost-user on a netdev bridge',
    asks: [{ document: ovsDpdk, traffic: [transactions()] }],
    value: halfRoundTrip,
  },
];

// ---- others -----------------------------------------------------------------------------------------------------
/** Xeon E5-1650 v4. */
const XDP18_GHZ = 3.6;
/** UDP payload of a frame of 1500 bytes of IPv4. */
const PAYLOAD_1500 = 1472;
const others: readonly Scenario[] = [
  {
    id: 'ch8118-user',
    clockGhz: NOT_STATED,
    setup: 'a Linux guest sends datagrams of 1472 bytes; its device in userspace, tap, a Linux bridge, a NIC',
    unscored: "the source's VMM is Cloud Hypervisor, here it is QEMU",
    asks: [
      {
        document: guestAndWire('virtio-net', 'linux', '25Gbps'),
        traffic: [{ kind: 'udp', from: 'a/net0', to: 'eth0', frameSize: 1518, duration: '10ms' }],
      },
    ],
    value: (results) => receivedMpps(results) * 1e-3 * PAYLOAD_1500 * 8,
  },
  {
    id: 'xdp18-lat-linux',
    clockGhz: XDP18_GHZ,
    setup: 'a Linux bridge between two NICs, 1 Mpps',
    unscored: `${FEEDS} (deep_idle_exit)`,
    asks: [
      {
        document: wireToWire({ datapath: 'linux', speed: '100Gbps' }),
        traffic: [frames('eth0', 'eth1', 64)],
        measure: { ...LOSSLESS, tests: ['throughput', 'latency'], maxRate: 1e6 },
      },
    ],
    value: (results) => {
      const latency = only(results).rfc2544?.sizes[0]?.latency?.[0];
      if (latency === undefined) throw new Error('a job without latency');
      return latency.meanSeconds * 1e6;
    },
  },
];

export const SCENARIOS: readonly Scenario[] = [...sig21, ...ovsperf, ...bounds, ...ovs, ...vhostNet, ...cx5, ...others];

// ---- traffic of guests with Linux ---------------------------------------------------------------------------------
function tcp(connections: number): JobTraffic {
  return { kind: 'tcp', from: 'a/net0', to: 'b/net0', connections, duration: '100ms' };
}
function datagrams(): JobTraffic {
  return {
    kind: 'udp',
    from: 'a/net0',
    to: 'b/net0',
    frameSize: IPERF_64,
    generator: 'socket',
    rate: 'max',
    duration: '20ms',
  };
}
/** Requests and answers of one byte, one after the other. */
function transactions(): JobTraffic {
  return { kind: 'tcp_rr', from: 'a/net0', to: 'b/net0', duration: '20ms' };
}
/** Half of a mean transaction, µs. */
function halfRoundTrip(results: Parameters<Scenario['value']>[0]): number {
  const found = runOf(results).transactions;
  if (found === undefined) throw new Error('a run without transactions');
  return (found.latencySeconds.mean * 1e6) / 2;
}
