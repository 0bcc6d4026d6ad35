/**
 * Halt polling: for a while after HLT the vCPU's thread looks for a wake-up itself before it sleeps, and how long adapts to
 * how long halts last. linux virt/kvm/kvm_main.c, kvm_vcpu_halt(), grow_halt_poll_ns(), shrink_halt_poll_ns() (6.1), with the
 * module's defaults.
 *
 * A poll ends with its time, or when another thread wants the core (kvm_vcpu_can_poll(): single_task_running()). On x86 every
 * wake-up is a valid one, so that halt_poll_invalid stays 0.
 */

/** linux virt/kvm/kvm_main.c: halt_poll_ns_grow, halt_poll_ns_grow_start, halt_poll_ns_shrink (0: at once to nothing). */
const GROW = 2;
const GROW_START_NS = 10_000;

export class HaltPoll {
  /** The parameter `halt_poll_ns` of the module kvm: the longest poll. */
  declare readonly max: number;
  /** How long the next halt polls: 0 at first. */
  halt_poll_ns = 0;
  /** As KVM's statistics name them. */
  halt_attempted_poll = 0;
  halt_successful_poll = 0;
  readonly halt_poll_invalid = 0;
  halt_poll_success_ns = 0;
  halt_poll_fail_ns = 0;
  /** Element 0: when the vCPU halted; 1: until when it polls. An array, so that times are not boxed. */
  private readonly span = new Float64Array(2);
  private attempted = false;

  constructor(max: number) {
    this.max = max;
  }

  /** HLT at `now`. */
  halt(now: number): void {
    this.attempted = this.halt_poll_ns > 0;
    this.span[0] = now;
    this.span[1] = now + this.halt_poll_ns;
  }
  /** Whether the thread still polls at `now`; `left`: when another one had the core last. */
  polls(now: number, left: number): boolean {
    return this.attempted && now <= this.span[1]! && left < this.span[0]!;
  }
  /**
   * The vCPU runs again at `now`; `woken` is when it was woken. Returns the time that its thread has polled, ns; negative where
   * that was in vain.
   */
  wake(now: number, woken: number, left: number): number {
    const start = this.span[0]!;
    const success = this.polls(woken, left);
    let polled = 0;
    if (this.attempted) {
      this.halt_attempted_poll++;
      const end = left >= start && left < this.span[1]! ? left : this.span[1]!;
      polled = success ? woken - start : end - start;
      if (success) {
        this.halt_successful_poll++;
        this.halt_poll_success_ns += polled;
      } else this.halt_poll_fail_ns += polled;
    }
    this.adapt((success ? woken : now) - start);
    return success || !this.attempted ? polled : -polled - 1;
  }
  /** Whether the last halt polled at all. */
  get didPoll(): boolean {
    return this.attempted;
  }

  /** What the next halt, or the one under way, depends on. */
  get state(): readonly number[] {
    return [this.halt_poll_ns, this.span[0]!, this.span[1]!, Number(this.attempted)];
  }
  set state(state: readonly number[]) {
    this.halt_poll_ns = state[0]!;
    this.span[0] = state[1]!;
    this.span[1] = state[2]!;
    this.attempted = state[3] === 1;
  }

  private adapt(halted: number): void {
    if (halted <= this.halt_poll_ns) return;
    if (this.halt_poll_ns > 0 && halted > this.max) this.halt_poll_ns = 0;
    else if (this.halt_poll_ns < this.max && halted < this.max)
      this.halt_poll_ns = Math.min(this.max, Math.max(GROW_START_NS, this.halt_poll_ns * GROW));
  }
}
