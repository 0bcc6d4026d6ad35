/** How long revalidators take: a round lands when all flows have been looked at. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import * as E from '../../../../../src/engine/events.ts';
import { Scheduler } from '../../../../../src/engine/scheduler.ts';
import { MAX_REVALIDATOR_MS, OvsRevalidator } from '../../../../../src/machine/ovs/datapath/revalidator.ts';
import { frame, pattern } from '../../packet/frame-maker.ts';
import { ActionBench } from './action-bench.ts';

test('a round that began shortly before the timer takes as long as its flows', () => {
  let port = 2;
  const bench = new ActionBench('system', 3, () => [{ type: 'output', port }]);
  const { datapath, bare } = bench;
  const { services } = bare;
  const revalidator = new OvsRevalidator('revalidator', services, datapath);
  revalidator.id = 0;
  const column = (): Float64Array => new Float64Array(1);
  const scheduler = new Scheduler([revalidator], services.recorder, column(), column(), 0);
  revalidator.begin();
  const FLOWS = 200;
  for (let i = 0; i < FLOWS; i++)
    bench.send(1, frame({ version: 4, protocol: 'udp', payload: pattern(8), ports: [1000 + i, 5000] }));
  assert.equal(datapath.flowCount, FLOWS);

  const timer = MAX_REVALIDATOR_MS * 1e6;
  scheduler.now[0] = timer - 100_000;
  port = 3;
  bench.generation++;
  datapath.changed(scheduler.now[0], 0);
  scheduler.run(timer + 10e6, 100);
  const looked = bare.events.filter(({ kind }) => kind === E.DP_REVALIDATE);
  assert.equal(looked.length, FLOWS);
  const landed = timer - 100_000 + services.ns('idle_backend_wakeup') + FLOWS * services.ns('revalidate_flow');
  assert.ok(landed > timer);
  assert.deepEqual(new Set(looked.map(({ time }) => time)), new Set([landed]));
});
