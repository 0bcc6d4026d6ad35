/** OpenFlow numbers of a bridge's ports (ovs ofproto.c alloc_ofp_port()): ones that were in use lately are given out last. */

/** OFPP_MAX of OpenFlow 1.0: what ofproto->max_ports is. */
const MAX_PORTS = 0xff00;
/** A number rests so long before it is as good as one that nobody had, ns. */
const REST = 3600e9;

export class OfportNumbers {
  /** When a number was given back, ns; Infinity: in use. */
  private readonly usage = new Map<number, number>();
  private last = 0;

  /** The number that is asked for, where it is free; else one that is; null: there is none left. */
  take(wanted: number | null, now: number): number | null {
    const free = wanted !== null && wanted >= 0 && wanted < MAX_PORTS && this.usage.get(wanted) !== Infinity;
    const number = free ? wanted : this.next(now);
    if (number !== null) this.usage.set(number, Infinity);
    return number;
  }
  giveBack(number: number, now: number): void {
    this.usage.set(number, now);
  }

  private next(now: number): number | null {
    let oldest: number | null = null;
    let least = Infinity;
    for (let i = 0; i < MAX_PORTS; i++) {
      this.last = this.last + 1 >= MAX_PORTS ? 1 : this.last + 1;
      const used = this.usage.get(this.last);
      if (used === undefined || used < now - REST) return this.last;
      if (used < least) {
        least = used;
        oldest = this.last;
      }
    }
    if (oldest !== null) this.last = oldest;
    return oldest;
  }
}
