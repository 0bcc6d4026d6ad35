/** Published points that no document expresses, each with the reason. None was moved here because of a result. */

const HOST_STACK = "one end is a program on a host's own network stack, which has no sockets here";
const TUNNEL = 'tunnels (VXLAN, Geneve) are not emulated';
const CONTAINER = 'network namespaces with veth pairs are not emulated';
const VPP = 'the switch is VPP: what its graph nodes cost is not in the cost table';
const HYPERTHREADS =
  'the cost of hyperthreads that share cores and contend for locks: contexts here are spread over whole cores';
const ZERO_COPY = 'zero-copy dequeue of the vhost library is not emulated';
const AF_XDP = 'AF_XDP and XDP are not emulated';
const ROUTER = 'the host routes, or ends traffic in its own stack: a host here has bridges only';
const RING_LAYOUT = 'the cost table has one row for both ring layouts and drivers: nothing would be predicted';
const VMM = 'the VMM is Firecracker';

export const OUT_OF_REACH: Readonly<Record<string, string>> = {
  'sig21-t4-p2p-k': HYPERTHREADS,
  'sig21-t4-p2p-d': 'a poll-mode thread takes its core whole: 1.0 by construction, nothing is predicted',
  'sig21-t4-pvp-k': HYPERTHREADS,
  'sig21-f9-k50': HOST_STACK,
  'sig21-f9-d50': HOST_STACK,
  'sig21-f10-k50': CONTAINER,
  'sig21-f7a-ktap': TUNNEL,
  'sig21-f7a-vu': TUNNEL,
  'sig21-s32-tap': 'a tap as a port of the netdev datapath is not emulated',
  'sig21-f7c-veth-off': CONTAINER,
  'sig21-f7c-veth-on': CONTAINER,
  'csit1704-vhost-l2xc-ndr': VPP,
  'csit1704-vhost-l2bd-ndr': VPP,
  'csit1704-vhost-l2xc-pdr': VPP,
  'csit1704-vhost-l2bd-pdr': VPP,
  'csit1609-vhost-l2xc-ndr': VPP,
  'csit1704-p2p-l2bd': VPP,
  'csit1704-p2p-ip4': VPP,
  'vppdoc-2t2c': VPP,
  'ovs3453-before': TUNNEL,
  'ovs3453-after': TUNNEL,
  'ovs3453-35': TUNNEL,
  'ovs79f3-pmd': 'the source does not say which ports there were',
  'ovsf3ad-meter': 'what a meter takes has no row in the cost table, and this point would be its only source',
  'ovs2109-tap1': CONTAINER,
  'ovs2109-tapb': CONTAINER,
  'ovs2109-ktap': CONTAINER,
  'ovs2daa-vxlan': TUNNEL,
  'ovs1008-zc': ZERO_COPY,
  'tunb-0': "the tap's receive batching cannot be switched off",
  'tunskb-before': "the host's pktgen writes into the tap's device, past every datapath: there is no such sender",
  'tunskb-after': "the host's pktgen writes into the tap's device, past every datapath: there is no such sender",
  'vhxdp-macvtap': AF_XDP,
  'vhkva-tx': "how vhost-net reaches its rings' metadata is part of one row of the cost table",
  'haltp-nopoll': HOST_STACK,
  'haltp-dyn': HOST_STACK,
  'hdrinl-after': HOST_STACK,
  'xsk-base': AF_XDP,
  'ovsmask-255': HOST_STACK,
  'fcdoc-1460': `${VMM}, and ${HOST_STACK}`,
  'fcdoc-lat': `${VMM}, and ${HOST_STACK}`,
  'fcbase-clx-h2g': `${VMM}, and ${HOST_STACK}`,
  'fcbase-clx-16k': `${VMM}, and ${HOST_STACK}`,
  'fcbase-clx-16k-vmm': `${VMM}, and ${HOST_STACK}`,
  'fcbase-milan-g2h': `${VMM}, and ${HOST_STACK}`,
  'fcbase-clx-ping': `${VMM}, and ${HOST_STACK}`,
  'fcbase-n1-ping': `${VMM}, and ${HOST_STACK}`,
  'ch409-2q': `the VMM is Cloud Hypervisor, and ${HOST_STACK}`,
  ch2b4a: `the VMM is Cloud Hypervisor, and ${HOST_STACK}`,
  ch4959: `the VMM is Cloud Hypervisor, and ${HOST_STACK}`,
  'microvm-off': "clients on the host's own stack, and a web server whose work has no row in the cost table",
  'microvm-on': "clients on the host's own stack, and a web server whose work has no row in the cost table",
  'lkl-none': 'the guest is a library operating system',
  'lkl-csum': 'the guest is a library operating system',
  butter: 'the switch is Butterfly: what it costs is not in the cost table',
  'virtwin-mq': 'a NIC has 16 queue pairs at most, the source 32',
  'nfvb-1518-ndr': 'the source does not say which switch it is',
  'dpdkiotlb-bad': 'a stale IOTLB cache that grows without bound is a bug that is not emulated',
  'dpdk0567-deq': 'shares of a poll-mode thread by function are not told apart',
  'dpdkpk-nomrg': RING_LAYOUT,
  dpdkind:
    'a driver that needs two descriptors for each frame (before virtio 1.0) is not emulated with the polling driver',
  'dpdkzc-1500': ZERO_COPY,
  'xdp18-linux-1': ROUTER,
  'xdp18-linux-6': ROUTER,
  'xdp18-dpdk-drop': 'a DPDK program on the host that is no switch is not emulated',
  'xdpprj-sink-other': ROUTER,
  'seed-10x': 'a headline without a scenario; the ratios below say where it holds',
  'exitless-lat': 'the source says what was gained, not what was measured',
  'chblk-poll': 'a block device',
  'chblk-nopoll': 'a block device',
};
