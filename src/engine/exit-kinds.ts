/** VM exits: the reason as the processor names it, who answers, and what struct kvm_run says where that is userspace. */
import {
  KVM_EXIT_EXTERNAL_INTERRUPT,
  KVM_EXIT_HLT,
  KVM_EXIT_IO,
  KVM_EXIT_IO_KERNEL,
  KVM_EXIT_MMIO_KERNEL,
  KVM_EXIT_MMIO_USER,
} from './events.ts';

export interface ExitKind {
  /** Kind of event. */
  readonly kind: number;
  readonly reason: 'EPT_MISCONFIG' | 'IO_INSTRUCTION' | 'HLT' | 'EXTERNAL_INTERRUPT';
  readonly handledBy: 'kernel' | 'userspace';
  /** kvm_run.exit_reason; null where KVM_RUN does not return. */
  readonly exit_reason: 'KVM_EXIT_IO' | 'KVM_EXIT_MMIO' | null;
}
const row = (kind: number, reason: ExitKind['reason'], exit_reason: ExitKind['exit_reason'] = null): ExitKind => ({
  kind,
  reason,
  handledBy: exit_reason === null ? 'kernel' : 'userspace',
  exit_reason,
});
export const EXIT_KINDS: readonly ExitKind[] = [
  row(KVM_EXIT_MMIO_KERNEL, 'EPT_MISCONFIG'),
  row(KVM_EXIT_MMIO_USER, 'EPT_MISCONFIG', 'KVM_EXIT_MMIO'),
  row(KVM_EXIT_IO, 'IO_INSTRUCTION', 'KVM_EXIT_IO'),
  row(KVM_EXIT_IO_KERNEL, 'IO_INSTRUCTION'),
  row(KVM_EXIT_HLT, 'HLT'),
  row(KVM_EXIT_EXTERNAL_INTERRUPT, 'EXTERNAL_INTERRUPT'),
];
