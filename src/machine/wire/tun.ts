/** Arguments of the /dev/net/tun ioctls and what lies before each packet. linux include/uapi/linux/if.h, if_tun.h (6.1). */
import { be16, bytes, le16, le32, struct } from './struct.ts';

export const IFNAMSIZ = 16;
export const ifreq = struct({ ifr_name: bytes(IFNAMSIZ), ifr_flags: le16, rest: bytes(22) });
/** Before each packet, unless IFF_NO_PI. `proto` is an EtherType. */
export const tun_pi = struct({ flags: le16, proto: be16 });
/** In `tun_pi.flags`: the packet did not fit in the buffer and was cut. */
export const TUN_PKT_STRIP = 1;
/** An argument that is one number. */
export const tun_int = struct({ value: le32 });
export const sock_fprog = struct({ len: le16, padding: bytes(6), filter: bytes(8) });

/** An interface's name as C has it: up to 15 characters and a 0. */
export function ifNameOf(argument: Uint8Array): string {
  const end = argument.subarray(0, IFNAMSIZ - 1).indexOf(0);
  return String.fromCharCode(...argument.subarray(0, end < 0 ? IFNAMSIZ - 1 : end));
}
/** struct ifreq with a name and flags. */
export function ifreqBytes(name: string, flags: number): Uint8Array {
  const out = new Uint8Array(ifreq.SIZE);
  for (let i = 0; i < Math.min(name.length, IFNAMSIZ - 1); i++) out[i] = name.charCodeAt(i) & 0xff;
  ifreq.ifr_flags.set(new DataView(out.buffer), 0, flags);
  return out;
}
