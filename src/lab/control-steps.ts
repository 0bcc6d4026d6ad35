/** The control plane of a guest as the API has it. */
import type { PayloadFields } from '../machine/wire/vhost-user-fields.ts';

export interface ControlPlaneQuery {
  /** Sequence number of the first event to look at. */
  readonly from: number;
  readonly limit: number;
  /** Also KVM_RUN and its returns. */
  readonly exits: boolean;
}
/** A step of the control plane. */
export interface ControlStep {
  readonly seq: number;
  readonly ns: number;
  readonly event: string;
  readonly place: string;
  readonly context: string;
  /** `KVM_IRQFD`, `VHOST_USER_SET_MEM_TABLE`; of what has no name of its own the event's. */
  readonly call: string;
  readonly fields: PayloadFields;
  /** What a system call returned, negative for an errno; null of what returns nothing, and 0 where nothing else was recorded. */
  readonly result: number | null;
}
export interface ControlSteps {
  readonly items: readonly ControlStep[];
  /** Sequence number to go on from; null at the end. */
  readonly next: number | null;
}
