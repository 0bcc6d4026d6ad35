/**
 * Ingress policing of a port: two token buckets, bits and packets, on virtual time (linux net/sched/act_police.c as ovs
 * lib/netdev-linux.c tc_add_policer() sets it up; lib/netdev-dpdk.c ingress_policer_run()).
 *
 * DEVIATION: the userspace datapath has the same buckets, where DPDK's meter colours by RFC 2697.
 */

/** Bursts where the database says none, kbit and kpkt. */
const DEFAULT_KBITS = 8000;
const DEFAULT_KPKTS = 16;

class Bucket {
  /** Tokens per ns, and most of them. */
  declare private readonly rate: number;
  declare private readonly burst: number;
  declare private tokens: number;
  private filled = 0;

  constructor(rate: number, burst: number) {
    this.rate = rate;
    this.burst = burst;
    this.tokens = burst;
  }
  fill(now: number): void {
    this.tokens = Math.min(this.burst, this.tokens + (now - this.filled) * this.rate);
    this.filled = now;
  }
  has(n: number): boolean {
    return this.tokens >= n;
  }
  take(n: number): void {
    this.tokens -= n;
  }
}

export class Policer {
  declare private readonly bits: Bucket | null;
  declare private readonly packets: Bucket | null;

  private constructor(bits: Bucket | null, packets: Bucket | null) {
    this.bits = bits;
    this.packets = packets;
  }
  /** kbit/s, kbit, kpkt/s, kpkt; a rate of 0: not limited, a burst of 0: the default. null: nothing is limited. */
  static of(rate: number, burst: number, kpktsRate: number, kpktsBurst: number): Policer | null {
    if (rate === 0 && kpktsRate === 0) return null;
    return new Policer(
      rate === 0 ? null : new Bucket(rate / 1e6, (burst || DEFAULT_KBITS) * 1000),
      kpktsRate === 0 ? null : new Bucket(kpktsRate / 1e6, (kpktsBurst || DEFAULT_KPKTS) * 1000),
    );
  }
  /** Whether a frame of so many bytes passes at `now` (ns). One that does not costs no tokens. */
  passes(bytes: number, now: number): boolean {
    const { bits, packets } = this;
    bits?.fill(now);
    packets?.fill(now);
    if (bits?.has(8 * bytes) === false || packets?.has(1) === false) return false;
    bits?.take(8 * bytes);
    packets?.take(1);
    return true;
  }
}
