/** The topologies that published measurements were made on, as documents. */
import type { TopologyDocument } from '../src/lab/document-schema.ts';

type Backend = 'virtio-net' | 'vhost-net' | 'vhost-user';
type Datapath = 'system' | 'netdev' | 'linux';

/** First source address of what a wire end sends: 198.18.0.1 (RFC 2544). */
const FIRST_SOURCE = 0xc6120001;
const address = (n: number): string => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255].join('.');

/** Fields that are spelled out here are checked when the document is parsed. */
const document = (value: object): TopologyDocument => value as TopologyDocument;

interface WireToWire {
  readonly datapath: Datapath;
  readonly speed: string;
  /** Receive queues of each NIC, with RSS. */
  readonly queues?: number;
  readonly cores?: number;
  /** `other_config` of Open vSwitch. */
  readonly otherConfig?: Readonly<Record<string, string>>;
  /** Flows of the bridge in place of the one that leads from eth0 to eth1. */
  readonly flows?: readonly string[];
}

/** Two NICs and a bridge between them. */
export function wireToWire({ datapath, speed, queues, cores, otherConfig, flows }: WireToWire): TopologyDocument {
  const nic = (name: string) => ({ name, speed, bridge: 'br0', ...(queues === undefined ? {} : { queues }) });
  const switched =
    datapath === 'linux' ? {} : { failMode: 'secure', flows: flows ?? ['in_port=eth0,actions=output:eth1'] };
  return document({
    hosts: [
      {
        name: 'h1',
        ...(cores === undefined ? {} : { cores }),
        ...(otherConfig === undefined ? {} : { ovs: { otherConfig } }),
        bridges: [{ name: 'br0', datapath, ...switched }],
        nics: [nic('eth0'), nic('eth1')],
      },
    ],
  });
}

interface WireGuestWire {
  readonly backend: 'vhost-net' | 'vhost-user';
  readonly speed: string;
  readonly queueSize: number;
  readonly app?: 'io' | 'macswap' | 'rxonly';
  readonly queuePairs?: number;
  readonly pmds?: number;
  readonly queues?: number;
  /**
   * How frames are switched: `ports`: from eth0 to the guest, and from it to eth1, whatever they are. A number: back to eth0, by so
   * many flows for each direction, of one source address each.
   */
  readonly switched: 'ports' | number;
  /** Packet weight of vhost workers; 0: a kernel before 4.17. */
  readonly vhostPacketWeight?: number;
  /** Each flow enters the EMC with its first frame: a test of 10 ms stands for one in which each has had hundreds. */
  readonly emcAtOnce?: boolean;
  /** False: Open vSwitch before 2.9. */
  readonly outputBatching?: boolean;
}

/** A NIC, a bridge, and a guest whose polling program sends back what it receives. */
export function wireGuestWire(setup: WireGuestWire): TopologyDocument {
  const { backend, speed, queueSize, app = 'io', queuePairs = 1, pmds = 1, switched } = setup;
  const userspace = backend === 'vhost-user';
  const nic = (name: string) => ({
    name,
    speed,
    bridge: 'br0',
    ...(setup.queues === undefined ? {} : { queues: setup.queues }),
  });
  return document({
    hosts: [
      {
        name: 'h1',
        cores: 16,
        ...(setup.vhostPacketWeight === undefined ? {} : { vhostPacketWeight: setup.vhostPacketWeight }),
        ovs: {
          ...(setup.emcAtOnce === true ? { otherConfig: { 'emc-insert-inv-prob': '1' } } : {}),
          ...(setup.outputBatching === undefined ? {} : { outputBatching: setup.outputBatching }),
        },
        bridges: [
          {
            name: 'br0',
            datapath: userspace ? 'netdev' : 'system',
            ...(userspace ? { pmds } : {}),
            failMode: 'secure',
            flows: switched === 'ports' ? PORT_FLOWS : layer3Flows(switched),
          },
        ],
        nics: switched === 'ports' ? [nic('eth0'), nic('eth1')] : [nic('eth0')],
        guests: [
          {
            name: 'a',
            app,
            nics: [
              {
                name: 'net0',
                bridge: 'br0',
                backend,
                driver: 'virtio-pmd',
                addresses: ['10.0.0.1/24'],
                queueSize,
                queuePairs,
              },
            ],
          },
        ],
      },
    ],
  });
}
const PORT_FLOWS = ['in_port=eth0,actions=output:a.net0', 'in_port=a.net0,actions=output:eth1'];
function layer3Flows(count: number): string[] {
  return Array.from({ length: count }, (_, i) => address(FIRST_SOURCE + i)).flatMap((ip) => [
    `priority=10,ip,in_port=eth0,nw_src=${ip},actions=output:a.net0`,
    `priority=10,ip,in_port=a.net0,nw_src=${ip},actions=output:eth0`,
  ]);
}

interface TwoGuests {
  readonly backend: Backend;
  readonly datapath: Datapath;
  readonly features?: Readonly<Record<string, boolean>>;
  readonly userspaceTso?: boolean;
}

/** Two guests of one host with the kernel's driver and one queue pair each. */
export function twoGuests({ backend, datapath, features, userspaceTso }: TwoGuests): TopologyDocument {
  const guest = (name: string, ip: string) => ({
    name,
    nics: [{ name: 'net0', bridge: 'br0', backend, addresses: [ip], ...(features === undefined ? {} : { features }) }],
  });
  return document({
    hosts: [
      {
        name: 'h1',
        bridges: [{ name: 'br0', datapath, ...(userspaceTso === true ? { userspaceTso } : {}) }],
        guests: [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24')],
      },
    ],
  });
}

/** A guest with the kernel's driver, and a NIC, on one bridge. */
export function guestAndWire(backend: 'virtio-net' | 'vhost-net', datapath: Datapath, speed: string): TopologyDocument {
  return document({
    hosts: [
      {
        name: 'h1',
        bridges: [{ name: 'br0', datapath }],
        nics: [{ name: 'eth0', speed, bridge: 'br0' }],
        guests: [{ name: 'a', nics: [{ name: 'net0', bridge: 'br0', backend, addresses: ['10.0.0.1/24'] }] }],
      },
    ],
  });
}

/** Two hosts with a guest each, joined by a cable. */
export function twoHosts(backend: 'virtio-net' | 'vhost-net', speed: string): TopologyDocument {
  const host = (name: string, guest: string, ip: string) => ({
    name,
    bridges: [{ name: 'br0', datapath: 'system' }],
    nics: [{ name: 'eth0', speed, bridge: 'br0' }],
    guests: [{ name: guest, nics: [{ name: 'net0', bridge: 'br0', backend, addresses: [ip] }] }],
  });
  return document({
    hosts: [host('h1', 'a', '10.0.0.1/24'), host('h2', 'b', '10.0.0.2/24')],
    links: [{ name: 'cable', ends: ['h1/eth0', 'h2/eth0'], latency: '1us' }],
  });
}
