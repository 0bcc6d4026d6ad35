/** Ethernet addresses that bridges may have (ovs vswitchd/bridge.c). */

/** Of one interface, not locally administered, not reserved (eth_addr_is_reserved(), those of the standard at least). */
export function mayRepresent(mac: Uint8Array): boolean {
  const reserved = mac[0] === 0x01 && mac[1] === 0x80 && mac[2] === 0xc2;
  return (mac[0]! & 3) === 0 && !reserved && mac.some((byte) => byte !== 0);
}
/** The address of a bridge that nothing else gives one: of the UUID of its row (bridge_create()), which lies in words of this machine. */
export function macOfUuid(uuid: string): Uint8Array {
  const hex = uuid.replaceAll('-', '');
  const byte = (i: number): number => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  const mac = Uint8Array.of(byte(3), byte(2), byte(1), byte(0), byte(7), byte(6));
  mac[0] = (mac[0]! & ~1) | 2;
  return mac;
}
