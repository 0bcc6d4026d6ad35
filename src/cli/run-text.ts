/** A run's result for people: a few lines for each traffic run, then the assertions. */
import type { JobResult, JobRun } from '../lab/job/job.ts';
import { rfc2544Text } from './rfc2544-text.ts';
import type { Verdict } from './run.ts';

const MARKS = { holds: 'ok  ', fails: 'FAIL', unclear: '??  ' } as const;

export function runText(result: JobResult, verdicts: readonly Verdict[], seconds: number): string {
  const { state, problem, fingerprint, profile, seed, events, virtualTimeSeconds } = result;
  const lines = [
    `${state}  ${timeText(virtualTimeSeconds)} of virtual time in ${seconds.toFixed(2)} s, ${events} events, fingerprint ${fingerprint}`,
    `costs ${profile.name} ${profile.hash}, seed ${seed}`,
  ];
  if (problem !== null) lines.push(`${problem.code} ${problem.pointer ?? ''}: ${problem.detail}`);
  for (const run of result.runs) lines.push('', ...linesOf(run));
  if (result.rfc2544 !== undefined) lines.push('', ...rfc2544Text(result.rfc2544));
  if (verdicts.length > 0) lines.push('');
  for (const { expression, outcome, detail } of verdicts)
    lines.push(`${MARKS[outcome]} ${expression}${detail === null ? '' : `   (${detail})`}`);
  return lines.join('\n');
}

function linesOf(run: JobRun): string[] {
  const { id, kind, from, to, state, sent, received, dropped, virtual, perFrame, tcp, transactions } = run;
  const { p50, p99, max } = virtual.latencySeconds;
  const drops = Object.entries(dropped).map(([reason, n]) => `${n} ${reason}`);
  return [
    `${id}  ${kind} ${from} -> ${to ?? '?'}  ${state}${run.reason === undefined ? '' : `: ${run.reason}`}`,
    `  sent ${sent}, received ${received}, dropped ${drops.length === 0 ? 'none' : drops.join(', ')}`,
    `  ${Math.round(virtual.framesPerSecond)} frames/s, latency p50 ${timeText(p50)}, p99 ${timeText(p99)}, max ${timeText(max)}`,
    `  per frame: exits ${plain(perFrame.exitsKernel)} kernel ${plain(perFrame.exitsUserspace)} userspace, kicks ${plain(perFrame.kicks)}, interrupts ${plain(perFrame.interrupts)}, copies ${plain(perFrame.copies)}`,
    ...(transactions === undefined
      ? []
      : [
          `  transactions: ${transactions.completed}, ${transactions.lost} lost, ${Math.round(transactions.perSecond)} a second, mean ${timeText(transactions.latencySeconds.mean)}`,
        ]),
    ...(tcp === undefined
      ? []
      : [
          `  tcp: ${plain(tcp.bitsPerSecond / 1e9)} Gbit/s, ${tcp.retransmits} retransmits, ${tcp.fastRecoveries} fast recoveries, ${tcp.timeouts} timeouts`,
        ]),
  ];
}

const plain = (value: number): string => String(Number(value.toFixed(4)));
function timeText(seconds: number): string {
  if (seconds >= 1) return `${Number(seconds.toFixed(3))} s`;
  if (seconds >= 1e-3) return `${Number((seconds * 1e3).toFixed(3))} ms`;
  return `${Number((seconds * 1e6).toFixed(3))} us`;
}
