/**
 * Where in a frame the words lie that say which flow it belongs to: addresses, protocol, ports. For hashes; nothing is
 * checked but that the words are there. One object is filled again and again, so that a frame costs no memory.
 *
 * Read first: linux net/core/flow_dissector.c; qemu hw/net/net_rx_pkt.c.
 */
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
const IPPROTO_IPIP = 4;
const IPPROTO_IPV6 = 41;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION = 60;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const ETH_P_8021Q = 0x8100;
const ETH_P_8021AD = 0x88a8;
const ETH_P_TEB = 0x6558;
const ETH_HEADER = 14;
const VLAN_HEADER = 4;
const VLANS_MAX = 2;
const EXTENSIONS_MAX = 8;
const VXLAN_PORT = 4789;
const GENEVE_PORT = 6081;

/** virtio 1.4 §5.1.9.5.6.4, bits of enabled_tunnel_types that are known here. */
export const VIRTIO_NET_HASH_TUNNEL_TYPE_VXLAN = 1 << 4;
export const VIRTIO_NET_HASH_TUNNEL_TYPE_GENEVE = 1 << 6;
export const VIRTIO_NET_HASH_TUNNEL_TYPE_IPIP = 1 << 7;

export class FlowKeys {
  /** 4, 6, or 0 where the frame is neither. */
  version = 0;
  /** Of the last header found. */
  protocol = 0;
  fragment = false;
  sourceAt = 0;
  destinationAt = 0;
  /** Of the ports; -1 where the frame has none that are whole. */
  portsAt = -1;
  /** IPv6: home address option and the address of a type 2 routing header (RFC 6275), -1 without. */
  homeAt = -1;
  routeAt = -1;
  /** First byte behind the headers that were walked. */
  #next = 0;

  /** Reads the frame of `length` bytes at `at`. With tunnel types, the inner frame of an enabled one that is there. */
  dissect(u8: Uint8Array, at: number, length: number, tunnels = 0): void {
    const end = at + length;
    this.ethernet(u8, at, end);
    if (tunnels !== 0 && this.version !== 0 && !this.fragment) this.enter(u8, end, tunnels);
  }
  private clear(): void {
    this.version = 0;
    this.protocol = 0;
    this.fragment = false;
    this.portsAt = this.homeAt = this.routeAt = -1;
  }
  private ethernet(u8: Uint8Array, at: number, end: number): void {
    this.clear();
    if (at + ETH_HEADER > end) return;
    let next = at + ETH_HEADER;
    let type = be16(u8, next - 2);
    for (let n = 0; n < VLANS_MAX && (type === ETH_P_8021Q || type === ETH_P_8021AD); n++) {
      next += VLAN_HEADER;
      if (next > end) return;
      type = be16(u8, next - 2);
    }
    if (type === ETH_P_IP) this.ipv4(u8, next, end);
    else if (type === ETH_P_IPV6) this.ipv6(u8, next, end);
  }
  private ipv4(u8: Uint8Array, at: number, end: number): void {
    this.clear();
    if (at + 20 > end || u8[at]! >>> 4 !== 4) return;
    const header = (u8[at]! & 0x0f) << 2;
    if (header < 20 || at + header > end) return;
    this.version = 4;
    this.sourceAt = at + 12;
    this.destinationAt = at + 16;
    this.protocol = u8[at + 9]!;
    this.fragment = (be16(u8, at + 6) & 0x3fff) !== 0;
    this.ports(at + header, end);
  }
  private ipv6(u8: Uint8Array, at: number, end: number): void {
    this.clear();
    if (at + 40 > end || u8[at]! >>> 4 !== 6) return;
    this.version = 6;
    this.sourceAt = at + 8;
    this.destinationAt = at + 24;
    this.protocol = u8[at + 6]!;
    let next = at + 40;
    for (let n = 0; n < EXTENSIONS_MAX && isExtension(this.protocol) && next + 8 <= end; n++) {
      const kind = this.protocol;
      const bytes = kind === FRAGMENT ? 8 : 8 + 8 * u8[next + 1]!;
      if (next + bytes > end) break;
      if (kind === FRAGMENT) this.fragment = true;
      else if (kind === ROUTING && u8[next + 2] === 2 && bytes === 24) this.routeAt = next + 8;
      else if (kind === DESTINATION) this.homeAddress(u8, next + 2, next + bytes);
      this.protocol = u8[next]!;
      next += bytes;
    }
    this.ports(next, end);
  }
  private homeAddress(u8: Uint8Array, at: number, end: number): void {
    while (at < end) {
      if (u8[at] === 0) {
        at++; // Pad1
        continue;
      }
      if (at + 2 > end) return;
      const bytes = u8[at + 1]!;
      if (u8[at] === 0xc9 && bytes === 16 && at + 18 <= end) this.homeAt = at + 2;
      at += 2 + bytes;
    }
  }
  private ports(at: number, end: number): void {
    this.#next = at;
    const has = this.protocol === IPPROTO_TCP || this.protocol === IPPROTO_UDP;
    if (has && !this.fragment && at + 4 <= end) this.portsAt = at;
  }
  private enter(u8: Uint8Array, end: number, tunnels: number): void {
    const at = this.#next;
    if ((tunnels & VIRTIO_NET_HASH_TUNNEL_TYPE_IPIP) !== 0) {
      if (this.protocol === IPPROTO_IPIP) return this.ipv4(u8, at, end);
      if (this.protocol === IPPROTO_IPV6) return this.ipv6(u8, at, end);
    }
    if (this.protocol !== IPPROTO_UDP || this.portsAt < 0 || at + 16 > end) return;
    const port = be16(u8, this.portsAt + 2);
    if (port === VXLAN_PORT && (tunnels & VIRTIO_NET_HASH_TUNNEL_TYPE_VXLAN) !== 0) this.ethernet(u8, at + 16, end);
    else if (port === GENEVE_PORT && (tunnels & VIRTIO_NET_HASH_TUNNEL_TYPE_GENEVE) !== 0) {
      if (be16(u8, at + 10) === ETH_P_TEB) this.ethernet(u8, at + 16 + 4 * (u8[at + 8]! & 0x3f), end);
    }
  }
}
const be16 = (u8: Uint8Array, at: number): number => (u8[at]! << 8) | u8[at + 1]!;
const isExtension = (protocol: number): boolean =>
  protocol === HOP_BY_HOP || protocol === ROUTING || protocol === FRAGMENT || protocol === DESTINATION;
