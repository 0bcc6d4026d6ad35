/**
 * A NIC whose vhost-user back-end dies, and is there again. QEMU finds its socket closed: the link goes down, the rings are
 * QEMU's to remember. Once it is connected again, everything is said as at the start and as at DRIVER_OK, without any doing of
 * the driver, and the link comes up. Each is a step of QEMU's main loop.
 *
 * Read first: qemu net/vhost-user.c, net_vhost_user_event(), chr_closed_bh(); chardev/char-socket.c,
 * qemu_chr_socket_restart_timer(); hw/virtio/vhost.c, vhost_virtqueue_stop(); dpdk lib/vhost/socket.c.
 *
 * QEMU 7.2 does not announce the guest then, nor is its driver asked to: its address is where it was.
 */
import { assert } from '../../../engine/assert.ts';
import { QEMU_BACKEND_BACK, QEMU_BACKEND_GONE } from '../../../engine/events.ts';
import type { NicDevice } from '../nic-device.ts';
import { monitorOf } from '../vmm/monitor.ts';
import type { Vmm } from '../vmm/vmm.ts';
import type { VhostUserConnection } from './vhost-user-connection.ts';

const handOver = (vmm: Vmm, nic: NicDevice): number =>
  2 * nic.wiring.pairs.length * vmm.services.ns('qemu_ring_handover');

/** The connection of a NIC that has one. */
export function connectionOf(nic: NicDevice): VhostUserConnection | null {
  return nic.backend.kind === 'vhost-user' ? nic.backend : null;
}

/**
 * The back-end dies now: its part is over at once, and QEMU will find out. `gone`: called when it has. Returns the number of
 * frames that were dropped. The NIC has a connection that stands.
 */
export function killBackend(vmm: Vmm, nic: NicDevice, contextBits: number, gone: () => void): number {
  const { wiring } = nic;
  const connection = connectionOf(nic);
  assert(
    wiring.kind === 'vhost-user' && connection !== null && connection.connected,
    'there is a back-end that can die',
  );
  const dropped = wiring.port.crash(wiring.pmds, vmm.services.recorder.stamp[0]!, contextBits);
  const find = (): void => {
    connection.frontend.onHangUp = null;
    monitorOf(vmm).ask([{ cost: handOver(vmm, nic), run: () => findDead(vmm, nic, connection, gone) }]);
  };
  connection.frontend.onHangUp = find;
  // its descriptors and mappings go, as with any process that ends
  vmm.actAs(contextBits, () => connection.disconnect('died'));
  return dropped;
}
function findDead(vmm: Vmm, nic: NicDevice, connection: VhostUserConnection, gone: () => void): void {
  connection.frontend.close('the other side closed');
  if (nic.backend === connection) {
    vmm.trace(nic.wiring.backendPlace)(QEMU_BACKEND_GONE, 0, 0);
    nic.backendGone();
  }
  gone();
}

/**
 * A back-end is there again and the sides find each other: QEMU goes through both handshakes. `tries`: in vain before this one.
 * `done`: called with the outcome.
 */
export function reconnect(
  vmm: Vmm,
  nic: NicDevice,
  connection: VhostUserConnection,
  tries: number,
  done: (connected: boolean) => void,
): void {
  const run = (): void => {
    // given another back-end meanwhile, or connected
    if (nic.backend !== connection || !connection.frontend.closed) {
      done(false);
      return;
    }
    const result = connection.connect();
    if (result === 0) {
      vmm.trace(nic.wiring.backendPlace)(QEMU_BACKEND_BACK, connection.connections, tries);
      nic.backendBack();
    }
    done(result === 0);
  };
  monitorOf(vmm).ask([{ cost: handOver(vmm, nic), run }]);
}
