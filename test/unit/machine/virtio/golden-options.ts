/** The option sets under which real devices were recorded, as the options of ours. */
import { readFileSync } from 'node:fs';
import type { OfferOptions } from '../../../../src/machine/virtio/net/net-offers.ts';

export interface GoldenCase {
  /** `-device` argument and netdev type of QEMU. */
  readonly device: string;
  readonly netdev: string;
  /** 64-bit words: offered by the device, written by the Linux 6.1 driver. */
  readonly offered: string;
  readonly accepted: string;
  /** The first 32 bytes of the device-specific configuration, in bytes read one by one. */
  readonly config?: string;
}
const file = new URL('../../../vectors/virtio-net/identity.json', import.meta.url);
export const GOLDEN: Readonly<Record<string, GoldenCase>> = JSON.parse(readFileSync(file, 'utf8')).cases;

const PROPERTY: Readonly<Record<string, string>> = {
  event_idx: 'VIRTIO_RING_F_EVENT_IDX',
  indirect_desc: 'VIRTIO_RING_F_INDIRECT_DESC',
  mrg_rxbuf: 'VIRTIO_NET_F_MRG_RXBUF',
  queue_reset: 'VIRTIO_F_RING_RESET',
  iommu_platform: 'VIRTIO_F_ACCESS_PLATFORM',
  failover: 'VIRTIO_NET_F_STANDBY',
  guest_rsc_ext: 'VIRTIO_NET_F_RSC_EXT',
  hash: 'VIRTIO_NET_F_HASH_REPORT',
  rss: 'VIRTIO_NET_F_RSS',
  guest_announce: 'VIRTIO_NET_F_GUEST_ANNOUNCE',
  ctrl_vq: 'VIRTIO_NET_F_CTRL_VQ',
  ctrl_rx: 'VIRTIO_NET_F_CTRL_RX',
  ctrl_vlan: 'VIRTIO_NET_F_CTRL_VLAN',
  ctrl_rx_extra: 'VIRTIO_NET_F_CTRL_RX_EXTRA',
  ctrl_mac_addr: 'VIRTIO_NET_F_CTRL_MAC_ADDR',
  ctrl_guest_offloads: 'VIRTIO_NET_F_CTRL_GUEST_OFFLOADS',
};
export interface GoldenOptions extends OfferOptions {
  readonly queuePairs: number;
  readonly mtu: number | null;
  readonly speed: number | null;
  readonly duplex: string | null;
}
export function optionsOf(name: string): GoldenOptions {
  const { device, netdev } = GOLDEN[name]!;
  const said = new Map(device.split(',').map((pair) => pair.split('=') as [string, string]));
  const features = Object.entries(PROPERTY).flatMap(([property, bit]) =>
    said.has(property) ? [[bit, said.get(property) === 'on']] : [],
  );
  const behindPort = said.has('bus');
  return {
    features: Object.fromEntries(features),
    queuePairs: said.get('mq') === 'on' ? (name.startsWith('mq2') ? 2 : 4) : 1,
    packed: said.get('packed') === 'on',
    mtu: said.has('host_mtu') ? Number(said.get('host_mtu')) : null,
    speed: said.has('speed') ? Number(said.get('speed')) : null,
    duplex: said.get('duplex') ?? null,
    transport: said.has('disable-modern')
      ? 'pci-legacy'
      : said.has('disable-legacy') || behindPort
        ? 'pci-modern'
        : 'pci-transitional',
    vnetHdr: netdev !== 'hubport',
  };
}
