/**
 * QEMU's own data path for a NIC whose back-end is a vhost: vhost-net did not start ("falling back on userspace virtio"), or the
 * link is down, and then there is no vhost. QEMU's main loop reads the tap and the kicks in place of the workers until end().
 * With vhost-user there is no tap, and the loop drops what the driver sends.
 *
 * Read first: qemu hw/net/virtio-net.c, virtio_net_vhost_status(); hw/net/vhost_net.c, vhost_net_stop_one() (poll(nc, true)).
 */
import { assert } from '../../../engine/assert.ts';
import { type QemuMainLoop, QemuNic } from '../../../machine/backend/qemu.ts';
import { Tap } from '../../../machine/host/tap.ts';
import type { Vmm } from '../vmm/vmm.ts';
import type { NicWiring } from './nic-wiring.ts';

type VhostWiring = Extract<NicWiring, { readonly kind: 'vhost-net' | 'vhost-user' }>;

export class UserspacePath {
  private readonly nics: readonly QemuNic[];
  private readonly loop: QemuMainLoop;
  private readonly wiring: VhostWiring;

  /** Takes effect at once. `linkDown`: whatever comes is dropped. */
  constructor(wiring: VhostWiring, vmm: Vmm, linkDown: boolean) {
    const { mainLoop } = vmm;
    assert(mainLoop !== null, 'a guest of QEMU has a main loop');
    this.loop = mainLoop;
    this.wiring = wiring;
    const tap = wiring.kind === 'vhost-net' ? wiring.tap : noTap(vmm, wiring);
    this.nics = wiring.pairs.map(({ pair, fds }, i) => {
      const nic = new QemuNic(pair, tap.queues[i]!, fds.txKick, fds.rxKick, wiring.bounce);
      nic.linkDown = linkDown;
      mainLoop.adopt(nic);
      return nic;
    });
  }

  /** The workers have their taps and kicks again; PMDs want none. */
  end(): void {
    const { wiring } = this;
    for (const nic of this.nics) {
      this.loop.release(nic);
      nic.txKick.waiter = null;
      nic.rxKick.waiter = null;
    }
    if (wiring.kind === 'vhost-net') for (const worker of wiring.workers) worker.begin();
  }
}

/** One that is plugged in nowhere: nobody gives it frames, and with the link down nothing goes out by it. */
function noTap({ services }: Vmm, { port, pairs }: Extract<NicWiring, { readonly kind: 'vhost-user' }>): Tap {
  const places = { port: port.place, tap: port.place };
  return new Tap(services, port.rxqs[0]!.datapath, port.number, port.name, places, 1, pairs.length);
}
