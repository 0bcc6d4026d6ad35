/** Connected UDP sockets of a guest: who a datagram is for. What comes to the discard port needs none. */
import type { GuestNic } from '../guest-nic.ts';

export interface UdpSocket {
  readonly nic: GuestNic;
  readonly localPort: number;
  readonly remotePort: number;
  /** A datagram with `length` bytes at arena offset `at`, at clock[0]. */
  datagram(at: number, length: number, clock: Float64Array): void;
}

export class UdpSockets {
  private readonly sockets = new Map<number, UdpSocket[]>();

  add(socket: UdpSocket): void {
    const key = keyOf(socket.localPort, socket.remotePort);
    this.sockets.set(key, [...(this.sockets.get(key) ?? []), socket]);
  }
  remove(socket: UdpSocket): void {
    const key = keyOf(socket.localPort, socket.remotePort);
    const left = (this.sockets.get(key) ?? []).filter((s) => s !== socket);
    if (left.length === 0) this.sockets.delete(key);
    else this.sockets.set(key, left);
  }
  /** The socket that takes what `remotePort` sends to `localPort`; null without. */
  find(nic: GuestNic, localPort: number, remotePort: number): UdpSocket | null {
    const list = this.sockets.get(keyOf(localPort, remotePort));
    if (list === undefined) return null;
    for (let i = 0; i < list.length; i++) if (list[i]!.nic === nic) return list[i]!;
    return null;
  }
}

const keyOf = (local: number, remote: number): number => (local << 16) | remote;
