/** Traffic requests of a template against the topology that they run in, as far as that can be said without building it. */
import { closeMatches } from '../document-faults.ts';
import type { JobTraffic } from '../job/job.ts';
import { type SchemaFault, schemaCheck } from '../schema-faults.ts';
import type { Topology } from '../topology.ts';
import { BadTraffic, trafficSpec } from '../traffic-request.ts';
import { parseSpan } from '../units.ts';
import { JobTrafficRequest } from './template.ts';
import { type Ends, endFaults, endsOf } from './traffic-ends-check.ts';

/** Fills in what has a default, in place. */
const checkShape = schemaCheck(JobTrafficRequest);

/** What is wrong with the requests; pointers begin with `/traffic`. `measured`: they are streams of a measurement. */
export function trafficFaults(traffic: readonly unknown[], topology: Topology, measured: boolean): SchemaFault[] {
  const ends = endsOf(topology);
  return traffic.flatMap((request, i): SchemaFault[] => {
    const at = `/traffic/${i}`;
    const shape = checkShape(request);
    if (shape.length > 0) return shape.map((fault) => ({ ...fault, pointer: at + fault.pointer }));
    return meaning(request as JobTraffic, ends, measured).map((fault) => ({ ...fault, pointer: at + fault.pointer }));
  });
}

function meaning({ start, ...request }: JobTraffic, ends: Ends, measured: boolean): SchemaFault[] {
  const faults: SchemaFault[] = [];
  const parsed = start === undefined ? null : parseSpan(start);
  if (parsed?.ok === false) faults.push({ pointer: '/start', detail: parsed.detail, expected: parsed.expected });
  try {
    trafficSpec(request, measured);
  } catch (error) {
    if (!(error instanceof BadTraffic)) throw error;
    faults.push({ pointer: error.pointer, detail: error.detail, expected: error.expected });
  }
  for (const field of ['from', 'to'] as const) {
    const name = request[field];
    if (ends.find(name) !== undefined) continue;
    const near = closeMatches(name, ends.names);
    const known = near.length > 0 ? near : ends.names.slice(0, 12);
    faults.push({
      pointer: `/${field}`,
      detail: `${JSON.stringify(name.slice(0, 80))} is not an end of this topology`,
      expected: `one of ${known.join(', ')}`,
    });
  }
  return faults.length > 0 ? faults : endFaults(request, ends);
}
