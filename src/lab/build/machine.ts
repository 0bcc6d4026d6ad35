/** A topology as it stands in memory: what building it leaves, for everything else in the lab. */
import type { WorldCatalog } from '../../engine/catalog.ts';
import type { Recorder } from '../../engine/recorder.ts';
import type { Scheduler } from '../../engine/scheduler.ts';
import type { Forwarder } from '../../machine/bridge/forwarder.ts';
import type { GuestNic } from '../../machine/guest/guest-nic.ts';
import type { LinuxVcpu } from '../../machine/guest/linux-vcpu.ts';
import type { PmdVcpu } from '../../machine/guest/pmd-vcpu.ts';
import type { GuestStack } from '../../machine/guest/stack/stack.ts';
import type { Injector } from '../../machine/host/injector.ts';
import type { NicTx } from '../../machine/host/nic.ts';
import type { NicRx } from '../../machine/host/nic-rx.ts';
import type { Port } from '../../machine/host/port.ts';
import type { Wire } from '../../machine/host/wire.ts';
import type { Vm } from '../../machine/kvm/vm.ts';
import type { Arena } from '../../machine/memory/arena.ts';
import type { OvsBridge } from '../../machine/ovs/datapath/bridge.ts';
import type { Pmd } from '../../machine/ovs/datapath/pmd.ts';
import type { Frames } from '../../machine/packet/frames.ts';
import type { PacketPool } from '../../machine/packet/pool.ts';
import type { Services } from '../../machine/services.ts';
import type { DeviceSetup } from '../devices/device-setup.ts';
import type { NicWiring } from '../devices/netdev/nic-wiring.ts';
import type { OvsHost } from '../ovs/ovs-host.ts';
import type { Datapath, Guest, GuestNic as GuestNicDocument, Host, Topology } from '../topology.ts';
import type { HostDpdk } from './host-dpdk.ts';
import type { Site } from './site.ts';

export interface BuiltNic {
  /** These two change with the NIC's back-end: see rewire.ts. */
  document: GuestNicDocument;
  wiring: NicWiring;
  readonly guest: BuiltGuest;
  readonly nic: GuestNic;
  readonly setup: DeviceSetup;
  readonly contexts: string[];
}
export interface BuiltGuest {
  readonly document: Guest;
  readonly host: Host;
  readonly name: string;
  readonly vm: Vm;
  readonly vcpu: LinuxVcpu | PmdVcpu;
  readonly vcpuPlace: number;
  /** All that run, `vcpu` first. */
  readonly vcpus: readonly (LinuxVcpu | PmdVcpu)[];
  readonly stack: GuestStack;
  readonly nics: BuiltNic[];
}
/** A bridge as its ports' wiring sees it. */
export interface BridgePorts {
  /** With its host's prefix. */
  readonly name: string;
  addPort(port: Port): void;
  plugPort(port: Port, contextBits: number): void;
  removePort(number: number, contextBits: number): void;
}
export interface BuiltBridge {
  readonly host: string;
  readonly name: string;
  readonly datapath: Datapath;
  /** Its datapath, which the bridges of Open vSwitch of one host and type share. */
  readonly bridge: Forwarder;
  /** Where ports come to it, and leave it. */
  readonly attach: BridgePorts;
  /** In its datapath; null for a bridge of the Linux kernel. */
  readonly ovs: OvsBridge | null;
  /** Of the bridge itself. */
  readonly place: number;
  /** Its own ports, as they are now. */
  readonly ports: () => Port[];
  readonly userspaceTso: boolean;
}
export interface BuiltHostNic {
  readonly host: string;
  readonly name: string;
  readonly rx: NicRx;
  readonly tx: NicTx;
  /** null where a link connects the NIC. */
  readonly wire: Wire | null;
  readonly bridge: string;
  readonly speed: number;
}
/** A topology as it stands in memory. */
export interface Machine {
  readonly topology: Topology;
  /** Where what comes to the running world is entered. */
  readonly site: Site;
  readonly arena: Arena;
  readonly services: Services;
  readonly recorder: Recorder;
  readonly frames: Frames;
  readonly pool: PacketPool;
  readonly scheduler: Scheduler;
  readonly catalog: WorldCatalog;
  readonly guests: readonly BuiltGuest[];
  readonly bridges: readonly BuiltBridge[];
  readonly hostNics: readonly BuiltHostNic[];
  /** Of the hosts with a netdev bridge. */
  readonly hostDpdks: readonly HostDpdk[];
  readonly pmds: readonly Pmd[];
  /** Open vSwitch of the hosts that have bridges of it. */
  readonly ovs: readonly OvsHost[];
  /** By host name. */
  readonly injectors: ReadonlyMap<string, Injector>;
  /** Arena offset of slots for templates, and how many. */
  readonly templates: number;
}
