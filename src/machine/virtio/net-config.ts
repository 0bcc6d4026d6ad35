/**
 * The device-specific configuration of virtio-net as the driver reads it: MAC and link status. virtio 1.2 §5.1.4.
 */
import { VIRTIO_NET_S_LINK_UP, virtio_net_config } from '../wire/virtio-net.ts';

export class NetConfig {
  /** Owner: device. 8 bytes: QEMU's config length when neither MQ, MTU nor RSS is offered. */
  readonly #view: DataView;

  constructor(mac: readonly number[]) {
    if (mac.length !== 6) throw new RangeError('a MAC address has 6 bytes');
    this.#view = new DataView(new ArrayBuffer(virtio_net_config.status.offset + 2));
    for (const [i, byte] of mac.entries()) this.#view.setUint8(i, byte);
    virtio_net_config.status.set(this.#view, 0, VIRTIO_NET_S_LINK_UP);
  }
  get length(): number {
    return this.#view.byteLength;
  }
  get linkUp(): boolean {
    return (virtio_net_config.status.get(this.#view, 0) & VIRTIO_NET_S_LINK_UP) !== 0;
  }
  /** True if that changed the configuration, so that config_generation and a config interrupt are due. */
  setLinkUp(up: boolean): boolean {
    if (up === this.linkUp) return false;
    virtio_net_config.status.set(this.#view, 0, up ? VIRTIO_NET_S_LINK_UP : 0);
    return true;
  }
  /**
   * Width 1, 2 or 4. An access that does not lie inside entirely reads all ones
   * (qemu hw/virtio/virtio.c, virtio_config_modern_readb() and its siblings).
   */
  read(offset: number, width: number): number {
    if (offset < 0 || offset + width > this.#view.byteLength)
      return width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff;
    if (width === 1) return this.#view.getUint8(offset);
    if (width === 2) return this.#view.getUint16(offset, true);
    return this.#view.getUint32(offset, true);
  }
}
