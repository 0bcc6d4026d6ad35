/**
 * QEMU's own data path for a NIC whose back-end is vhost-net: vhost did not start ("falling back on userspace virtio"), or the
 * link is down, and then there is no vhost. QEMU's main loop reads the tap and the kicks in place of the workers until end().
 *
 * Read first: qemu hw/net/virtio-net.c, virtio_net_vhost_status(); hw/net/vhost_net.c, vhost_net_stop_one() (poll(nc, true)).
 */
import { assert } from '../../engine/assert.ts';
import { type QemuMainLoop, QemuNic } from '../../machine/backend/qemu.ts';
import type { VhostNetWiring } from './nic-wiring.ts';
import type { Vmm } from './vmm.ts';

export class UserspacePath {
  private readonly nics: readonly QemuNic[];
  private readonly loop: QemuMainLoop;
  private readonly wiring: VhostNetWiring;

  /** Takes effect at once. `linkDown`: whatever comes is dropped. */
  constructor(wiring: VhostNetWiring, vmm: Vmm, linkDown: boolean) {
    const { mainLoop } = vmm;
    assert(mainLoop !== null, 'a guest of QEMU has a main loop');
    this.loop = mainLoop;
    this.wiring = wiring;
    this.nics = wiring.pairs.map(({ pair, fds }, i) => {
      const nic = new QemuNic(pair, wiring.tap.queues[i]!, fds.txKick, fds.rxKick, wiring.bounce);
      nic.linkDown = linkDown;
      mainLoop.adopt(nic);
      return nic;
    });
  }

  /** The workers have their taps and kicks again. */
  end(): void {
    for (const nic of this.nics) this.loop.release(nic);
    for (const worker of this.wiring.workers) worker.begin();
  }
}
