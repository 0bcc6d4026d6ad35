/** Faults as they are asked for and as they are told of: plain data, which travels between threads. Times in ns of virtual time. */

export const FAULT_KINDS = ['backend_crash', 'link_down', 'lost_kick', 'lost_interrupt'] as const;

/** `nic`: `guest/nic`, as traffic names it. */
export type FaultSpec =
  | {
      readonly kind: 'backend_crash';
      readonly nic: string;
      /** When; null: now, or where `everyFrames` is given when so many have been carried. */
      readonly atNs: number | null;
      /** Whenever the port has carried so many frames, of both directions together. */
      readonly everyFrames: number | null;
      /** How often at most; null: as long as the fault is there. */
      readonly times: number | null;
      /** The back-end is started again so long after it died; null: when the fault is deleted. */
      readonly restartAfterNs: number | null;
    }
  | {
      readonly kind: 'link_down';
      readonly nic: string;
      readonly atNs: number | null;
      /** null: until the fault is deleted. */
      readonly durationNs: number | null;
    }
  | {
      /** Available buffer notifications, or used buffer notifications, that do not arrive. */
      readonly kind: 'lost_kick' | 'lost_interrupt';
      readonly nic: string;
      readonly atNs: number | null;
      /** `tx0` … */
      readonly queue: string;
      /** How many of them. */
      readonly count: number;
    };

export interface Strike {
  readonly beganNs: number;
  /** QEMU found its socket closed, or had pulled the cable; null: not yet. */
  noticedNs: number | null;
  /** The back-end was there again. */
  restartedNs: number | null;
  /** All was as before: rings handed over, link up. */
  recoveredNs: number | null;
  /** Frames that the back-end held. */
  dropped: number;
  /** Frames that the guest's rings still held as not used, and that were sent again. */
  duplicated: number;
}

/**
 * ARMED: it waits for its time, or for frames. ACTIVE: something is broken. ENDED: all is as before, and stays so; or `reason`
 * says why not.
 */
export type FaultPhase = 'ARMED' | 'ACTIVE' | 'ENDED';

export interface FaultState {
  readonly id: string;
  readonly spec: FaultSpec;
  readonly state: FaultPhase;
  readonly reason: string | null;
  /** How often it struck, and how often there was nothing to strike. */
  readonly strikes: number;
  readonly missed: number;
  readonly dropped: number;
  readonly duplicated: number;
  /** The last strike. */
  readonly last: Readonly<Strike> | null;
}
