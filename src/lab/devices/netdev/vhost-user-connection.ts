/**
 * A NIC's vhost-user connection: QEMU's (or StratoVirt's) end with the descriptors of its process, and the port's end in
 * ovs-vswitchd with its descriptors and mappings. The back-end reads as soon as something is sent to it.
 *
 * DEVIATION: what ovs-vswitchd has open is counted for each port by itself; the real process has one table for all.
 */

import { assert } from '../../../engine/assert.ts';
import { EventFd } from '../../../engine/eventfd.ts';
import { VHOST_USER_CONNECT, VHOST_USER_LISTEN } from '../../../engine/events.ts';
import { FdTable } from '../../../machine/kernel/files.ts';
import { Mappings, MemoryFile } from '../../../machine/kernel/memory-file.ts';
import { socketPair } from '../../../machine/kernel/unix-socket.ts';
import type { AddressSpace } from '../../../machine/memory/address-space.ts';
import type { RingParams } from '../../../machine/vhost/hand-over.ts';
import type { Trace } from '../../../machine/vhost/kernel/vhost-net.ts';
import { ovsOffer } from '../../../machine/vhost/offers.ts';
import { RingLog } from '../../../machine/vhost/ring-log.ts';
import { NO_FD, type VhostSession } from '../../../machine/vhost/session.ts';
import { type BackendHooks, VhostUserBackend } from '../../../machine/vhost/user/backend.ts';
import type { CloseReason } from '../../../machine/vhost/user/close-reasons.ts';
import { VhostUserFrontend } from '../../../machine/vhost/user/frontend.ts';
import { type BackendProfile, DPDK_22_11 } from '../../../machine/vhost/user/profiles.ts';
import { StratovirtUserClient } from '../../../machine/vhost/user/stratovirt-client.ts';
import { featuresOf, orFeatures, VIRTIO_F_ACCESS_PLATFORM } from '../../../machine/virtio/features.ts';
import { VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD } from '../../../machine/wire/vhost-user-requests.ts';
import { type VhostUserOptions, vhostUserDefaults } from '../../topology.ts';
import type { Vmm } from '../vmm/vmm.ts';
import { callOf, type NicWiring } from './nic-wiring.ts';

/** Column `a` of the events of the socket: whose side it is. */
export const SIDE_FRONTEND = 0;
export const SIDE_BACKEND = 1;

type UserWiring = Extract<NicWiring, { readonly kind: 'vhost-user' }>;

/** What Open vSwitch offers for a port: `other_config:vhost-iommu-support` for guests that have an IOMMU. */
function profileOf(wiring: UserWiring): BackendProfile {
  const offer = ovsOffer(wiring.userspaceTso);
  const iommu = wiring.document.features['VIRTIO_F_ACCESS_PLATFORM'] === true;
  // an option here: DPDK's library has it, and Open vSwitch does not ask for it
  const inflight = wiring.document.vhostUser?.inflight === true ? 1 << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD : 0;
  return {
    ...DPDK_22_11,
    features: iommu ? orFeatures(offer, featuresOf(VIRTIO_F_ACCESS_PLATFORM)) : offer,
    protocolFeatures: DPDK_22_11.protocolFeatures | inflight,
  };
}

export class VhostUserConnection {
  readonly kind = 'vhost-user';
  readonly frontend: VhostUserFrontend | StratovirtUserClient;
  /** The other side; another one after each connect(). */
  backend: VhostUserBackend;
  /** What the switch's process has open and mapped because of this port. */
  readonly table = new FdTable();
  readonly mappings = new Mappings();
  /** What the port does about the messages; set before connect(). */
  hooks: BackendHooks = {};
  /** By which the back-end's queues reach guest memory; null before the first start. */
  private space: AddressSpace | null = null;
  private readonly vmm: Vmm;
  private readonly wiring: UserWiring;
  private readonly trace: Trace;
  private readonly profile: BackendProfile;
  private readonly calls: readonly Pick<RingParams, 'call' | 'err'>[];
  /** Connections made. */
  connections = 0;
  /** How the two sides find each other, and what they do after they lost each other. */
  readonly options: VhostUserOptions;

  constructor(vmm: Vmm, wiring: UserWiring) {
    this.vmm = vmm;
    this.wiring = wiring;
    this.trace = vmm.trace(wiring.backendPlace);
    this.profile = profileOf(wiring);
    this.options = wiring.document.vhostUser ?? vhostUserDefaults(wiring.vmm);
    const options = { table: vmm.process.fds, trace: this.trace, name: `${wiring.nic.name} backend channel` };
    this.frontend = wiring.vmm === 'stratovirt' ? new StratovirtUserClient(options) : new VhostUserFrontend(options);
    this.backend = this.newBackend();
    this.calls = Array.from({ length: 2 * wiring.pairs.length }, (_, queue) => ({
      call: callOf(wiring, queue).fd,
      // qemu vhost_virtqueue_init(): one for errors, which nobody reads but QEMU
      err: wiring.vmm === 'stratovirt' ? NO_FD : vmm.process.eventFd(new EventFd(0, `${wiring.nic.name} err ${queue}`)),
    }));
  }
  private newBackend(): VhostUserBackend {
    return new VhostUserBackend({
      trace: this.trace,
      profile: this.profile,
      vrings: 2 * this.wiring.pairs.length,
      table: this.table,
      mappings: this.mappings,
      hooks: {
        ...this.hooks,
        onLog: () => this.keepLog(),
        onFeatures: () => this.keepLog(),
        onClose: (reason) => {
          this.keepLog();
          this.hooks.onClose?.(reason);
        },
      },
      dataPathTranslates: true,
    });
  }

  /** What the back-end has been told. */
  get session(): VhostSession {
    return this.backend.session;
  }
  /** A back-end's process is there, and the two sides find each other: the server listens, the client connects. 0, or a negative errno. */
  connect(): number {
    const { wiring, trace } = this;
    assert(this.frontend.closed, 'one connection at a time');
    const [here, there] = socketPair(wiring.nic.name);
    const frontendServes = this.options.mode === 'server';
    if (this.connections === 0) trace(VHOST_USER_LISTEN, frontendServes ? SIDE_FRONTEND : SIDE_BACKEND, 0);
    this.connections++;
    this.backend = this.newBackend();
    trace(VHOST_USER_CONNECT, frontendServes ? SIDE_BACKEND : SIDE_FRONTEND, 0);
    this.frontend.open(here);
    this.backend.attach(there);
    there.onReadable = () => this.backend.serve();
    return this.frontend instanceof VhostUserFrontend ? this.frontend.connect(this.calls) : this.frontend.connect();
  }
  /** Descriptor of the file behind guest RAM (memory-backend-memfd, share=on), which the back-end maps; opened once for a guest. */
  get ramFd(): number {
    const { process, vm } = this.vmm;
    for (const [fd, file] of process.fds.entries())
      if (file instanceof MemoryFile && file.arenaOffset === vm.ram) return fd;
    const options = { arenaOffset: vm.ram };
    return process.fds.install(new MemoryFile('memfd:memory-backend-memfd', vm.ramBytes, options));
  }
  /** NET_SET_MTU, where the document gives the device an MTU. 0, or a negative errno. */
  setMtu(): number {
    const { mtu } = this.wiring.document;
    return mtu === null || !(this.frontend instanceof VhostUserFrontend) ? 0 : this.frontend.setMtu(mtu);
  }
  /** The device is realized: its rings are enabled, the first pair's (virtio_net_set_queue_pairs()). */
  realize(): void {
    const rings = 2 * this.wiring.pairs.length;
    if (this.frontend instanceof VhostUserFrontend) this.frontend.enableRings(rings, Math.min(2, rings));
  }
  /** The back-end's queues reach guest memory by `space` from now on. */
  reaches(space: AddressSpace): void {
    this.space = space;
    this.keepLog();
  }
  /** The front-end wants to know what is written (VHOST_F_LOG_ALL and a log to write to), or does so no more. */
  private keepLog(): void {
    const { space, backend } = this;
    const { port } = this.wiring;
    if (space === null || backend.session.translates) return;
    const logs = backend.logging && !backend.closed;
    if (!logs && port.log === null) return;
    const log = logs ? new RingLog(backend, space) : null;
    space.translateBy(log);
    port.log = log;
  }
  /** Both sides have their end of the socket. */
  get connected(): boolean {
    return !this.frontend.closed && !this.backend.closed;
  }
  /** The back-end goes: its process ends, or closes the connection. */
  disconnect(reason: CloseReason = 'disconnected'): void {
    this.backend.disconnect(reason);
  }
  /** QEMU's end goes with the device. */
  dispose(): void {
    if (this.frontend instanceof VhostUserFrontend) this.frontend.dispose();
    else this.frontend.close('disconnected');
    const { process } = this.vmm;
    for (const { err } of this.calls) if (err !== NO_FD) process.fds.close(err);
  }
}

/** The socket of a NIC is set up as far as it goes without a guest. */
export function openVhostUser(vmm: Vmm, wiring: UserWiring): VhostUserConnection {
  const connection = new VhostUserConnection(vmm, wiring);
  const { port, pmds } = wiring;
  connection.hooks = {
    onRarp: (mac) => {
      port.sendRarp(mac);
      pmds[0]!.look();
    },
  };
  const result = connection.connect();
  assert(result === 0, `our vhost-user back-end takes a front-end: ${connection.backend.closeReason}`);
  connection.realize();
  return connection;
}
