/** What KVM shows of a guest, as the API has it. */
export interface KvmState {
  readonly guest: string;
  readonly host: string;
  readonly vcpus: readonly VcpuState[];
  readonly memorySlots: readonly {
    readonly slot: number;
    readonly flags: number;
    readonly guestPhysAddr: string;
    readonly memorySize: number;
    readonly userspaceAddr: string;
  }[];
  readonly ioeventfds: readonly {
    readonly bus: 'mmio' | 'pio';
    readonly address: string;
    /** Bytes of the write; 0: any. */
    readonly length: number;
    readonly datamatch: number | null;
    readonly fd: number;
    readonly what: string;
  }[];
  readonly irqfds: readonly { readonly fd: number; readonly gsi: number; readonly what: string }[];
  readonly routes: readonly {
    readonly gsi: number;
    readonly type: 'irqchip' | 'msi';
    readonly irqchip: number | null;
    readonly pin: number | null;
    readonly address: string | null;
    readonly data: number | null;
  }[];
  readonly descriptors: readonly { readonly fd: number; readonly file: string }[];
}
export interface VcpuState {
  readonly id: number;
  /** Descriptor in the VMM's process. */
  readonly fd: number;
  readonly exits: readonly {
    readonly reason: string;
    readonly handledBy: 'kernel' | 'userspace';
    readonly count: number;
  }[];
  /** exit_reason in struct kvm_run, of the last return of KVM_RUN, and how often it came back for what. */
  readonly exitReason: string;
  readonly returns: Readonly<Record<string, number>>;
  readonly haltWakeup: number;
  readonly postedInterrupts: number;
  readonly haltPoll: {
    readonly haltPollNs: number;
    readonly haltAttemptedPoll: number;
    readonly haltSuccessfulPoll: number;
    readonly haltPollInvalid: number;
    readonly haltPollSuccessNs: number;
    readonly haltPollFailNs: number;
  } | null;
}
