/**
 * What the Linux driver does about a changed configuration: linux drivers/net/virtio_net.c, virtnet_config_changed_work(). It
 * looks at the status, announces itself where the device asks for that, and takes over speed and duplex mode of a link that has
 * come up.
 *
 * DEVIATION: senders go on while the link is down; nothing in a world pulls a cable.
 */
import { hasFeature, VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS } from '../virtio/features.ts';
import { ARPOP_REQUEST, ETH_HLEN, ETH_P_ARP, ETH_ZLEN } from '../wire/ethernet.ts';
import { VIRTIO_NET_S_ANNOUNCE, VIRTIO_NET_S_LINK_UP, virtio_net_config } from '../wire/virtio-net.ts';
import type { GuestNic } from './guest-nic.ts';
import { linkSettings } from './net-commands.ts';
import type { Probed } from './probe/probe-types.ts';
import type { Inet } from './stack/inet.ts';
import type { IpAddress } from './stack/ip-path.ts';
import { ALL_NODES, multicastMacOf, ND_FRAME, type Ndp } from './stack/ndp.ts';
import type { ReplySource } from './traffic/reply-source.ts';

const C = virtio_net_config;
const BROADCAST: readonly number[] = [255, 255, 255, 255, 255, 255];
const NOBODY: readonly number[] = [0, 0, 0, 0, 0, 0];

export class LinkWatch {
  up: boolean;
  /** Mbit/s, and duplex mode; null is unknown. */
  speed: number | null = null;
  duplex: 'half' | 'full' | null = null;
  private readonly probed: Pick<Probed, 'features' | 'binding'>;

  constructor(probed: Pick<Probed, 'features' | 'binding' | 'linkUp' | 'speed' | 'duplex'>) {
    this.probed = probed;
    this.up = probed.linkUp;
    if (probed.speed !== null && probed.duplex !== null) this.settings(probed.speed, probed.duplex);
  }
  /** Looks at the device, by register accesses. True: it asks the driver to announce itself. */
  changed(): boolean {
    const { features, binding } = this.probed;
    if (!hasFeature(features, VIRTIO_NET_F_STATUS)) return false;
    const status = binding.readStatusField();
    const up = (status & VIRTIO_NET_S_LINK_UP) !== 0;
    if (up && !this.up && hasFeature(features, VIRTIO_NET_F_SPEED_DUPLEX)) {
      this.settings(
        binding.readConfig(C.speed.offset, C.speed.width),
        binding.readConfig(C.duplex.offset, C.duplex.width),
      );
    }
    this.up = up;
    return (status & VIRTIO_NET_S_ANNOUNCE) !== 0;
  }
  private settings(speed: number, duplex: number): void {
    ({ speed: this.speed, duplex: this.duplex } = linkSettings(speed, duplex));
  }
}

/**
 * netdev_notify_peers(): tells everybody on the link where the NIC's addresses are, by a request for each IPv4 address that
 * asks for itself (inetdev_send_gratuitous_arp()), and by an advertisement of each IPv6 address that nobody asked for
 * (ndisc_send_unsol_na()). `now`: when they are due.
 */
export function announceAddresses(
  nic: GuestNic,
  addresses6: readonly IpAddress[],
  source: ReplySource,
  { inet, ndp }: { readonly inet: Inet; readonly ndp: Ndp },
  now: number,
): void {
  for (const { ip } of nic.addresses) {
    const at = source.reserve(0, now, ETH_ZLEN);
    if (at < 0) return;
    inet.ethernet(at, BROADCAST, nic.mac, ETH_P_ARP);
    inet.arp(at + ETH_HLEN, ARPOP_REQUEST, nic.mac, ip, NOBODY, ip);
    source.commit(ETH_ZLEN);
  }
  for (const ip of addresses6) {
    const at = source.reserve(0, now, ND_FRAME);
    if (at < 0) return;
    source.commit(ndp.advertisement(at, nic.mac, multicastMacOf(ALL_NODES), ALL_NODES, ip, false));
  }
}
