/**
 * StratoVirt's vhost-net device before a guest runs: all vhost devices and their owners first, then the taps, then what the
 * first of them can (stratovirt 2.5.0 virtio/src/vhost/kernel/net.rs, realize()). What happens at DRIVER_OK is vhostNetStart()
 * with StratoVirt's order.
 */
import { NO_FEATURES } from '../../virtio/features.ts';
import { viewOf } from '../../wire/struct.ts';
import { vhost_features } from '../../wire/vhost.ts';
import { u64Payload } from '../../wire/vhost-user-codec.ts';
import type { IoctlCarrier, VhostNetFrontend } from './frontend.ts';
import { VHOST_GET_FEATURES, VHOST_SET_OWNER } from './vhost-net.ts';

/** `carriers`: by queue pair, each /dev/vhost-net open for itself. The front-ends, or the first negative errno. */
export function stratovirtNetInit(
  carriers: readonly IoctlCarrier[],
  openTaps: () => void,
): VhostNetFrontend[] | number {
  for (const carrier of carriers) {
    const owner = carrier.ioctl(VHOST_SET_OWNER);
    if (owner < 0) return owner;
  }
  openTaps();
  const offered = u64Payload(0);
  const r = carriers[0]?.ioctl(VHOST_GET_FEATURES, offered) ?? 0;
  if (r < 0) return r;
  const view = viewOf(offered);
  const features =
    carriers.length === 0 ? NO_FEATURES : { lo: vhost_features.lo.get(view, 0), hi: vhost_features.hi.get(view, 0) };
  return carriers.map((carrier) => ({ carrier, features }));
}
