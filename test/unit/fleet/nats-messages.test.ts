/** Messages from a broker, where others may write: what is taken for a job, an outcome, a notice. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import {
  excerptOf,
  type KeptOutcome,
  parseCancellation,
  parseNotice,
  parseOutcome,
  parseQueued,
  parseReport,
} from '../../../src/fleet/nats-messages.ts';
import { contentHash, type JobSpec } from '../../../src/lab/job/job.ts';
import { runJob } from '../../../src/lab/job/run-job.ts';
import { jobOf, queued, udp } from './jobs.ts';

const bytes = (value: unknown): Uint8Array =>
  new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));
const KEY = 'a'.repeat(64);

test('a job is what was written, with nothing filled in', () => {
  const job = queued(jobOf(1));
  assert.deepEqual(parseQueued(bytes(job)), job);
  const measured = queued(jobOf(1, { measure: { kind: 'rfc2544' } }));
  assert.deepEqual(parseQueued(bytes(measured)), measured);
});

/** What is said of a job with its right key. */
function faultOf(change: object): string {
  const job = { ...jobOf(1), ...change } as JobSpec;
  const parsed = parseQueued(bytes(queued(job)));
  return typeof parsed === 'string' ? parsed : 'none';
}
test('a job that is none says what is wrong', () => {
  assert.equal(parseQueued(bytes('{')), 'it is not JSON');
  assert.match(String(parseQueued(bytes('null'))), /object/);
  const right = queued(jobOf(1));
  assert.equal(parseQueued(bytes({ ...right, key: KEY })), '/key is not the hash of /job');
  assert.match(String(parseQueued(bytes({ ...right, limits: { memory: 1 } }))), /^\/limits/);
  assert.match(String(parseQueued(bytes({ ...right, limits: { memory: -1, wallSeconds: 1 } }))), /^\/limits\/memory/);
  assert.match(faultOf({ traffic: [udp({ frameSize: 5 })] }), /^\/job\/traffic\/0\/frameSize/);
  assert.match(faultOf({ traffic: 'udp' }), /^\/job\/traffic/);
  assert.match(faultOf({ document: [] }), /^\/job\/document/);
  assert.match(faultOf({ profile: { name: 'x', costs: { vm_exit: 'much' } } }), /^\/job\/profile\/costs\/vm_exit/);
  assert.match(faultOf({ maxEvents: 0 }), /^\/job\/maxEvents/);
  assert.match(faultOf({ measure: { kind: 'other' } }), /^\/job\/measure/);
  assert.match(faultOf({ command: 'rm' }), /command/);
});

test('a document that cannot be built is no fault of the message: its run says so', () => {
  const parsed = parseQueued(bytes(queued({ ...jobOf(1), document: { hosts: 'none' } as never })));
  assert.ok(typeof parsed !== 'string');
  assert.equal(runJob(parsed.job).problem?.pointer, '/topology/hosts');
});

test('outcomes', () => {
  const result = runJob(jobOf(1));
  const kept: KeptOutcome = { kind: 'result', result, digest: contentHash(result), wallSeconds: 0.5 };
  assert.deepEqual(parseOutcome(bytes(kept)), kept);
  const failed: KeptOutcome = {
    kind: 'failed',
    problem: { code: 'RINGSIDE_E_LIMIT', detail: 'the run takes longer than 1 s', pointer: '/limits/time' },
    wallSeconds: 1,
    limits: { memory: 1, wallSeconds: 1 },
  };
  assert.deepEqual(parseOutcome(bytes(failed)), failed);
  const { limits: _, ...unlimited } = failed;
  for (const wrong of ['', '{}', unlimited, { ...kept, digest: 'x' }, { ...kept, result: null }, { kind: 'cancelled' }])
    assert.equal(parseOutcome(bytes(wrong)), null, JSON.stringify(wrong).slice(0, 80));
});

test('notices, cancellations and reports', () => {
  assert.deepEqual(parseNotice(bytes({ kind: 'ended', key: KEY })), { kind: 'ended', key: KEY });
  assert.equal(parseNotice(bytes({ kind: 'other', key: KEY })), null);
  assert.equal(parseNotice(bytes('')), null);
  assert.deepEqual(parseCancellation(bytes({ keys: [KEY] })), { keys: [KEY] });
  assert.equal(parseCancellation(bytes({ keys: [1] })), null);
  const report = { id: 'w', engine: '1', threads: 2 };
  assert.deepEqual(parseReport(bytes(report)), report);
  assert.equal(parseReport(bytes({ ...report, threads: 1e9 })), null);
  assert.equal(excerptOf(bytes('x'.repeat(5000))).length, 2000);
});
