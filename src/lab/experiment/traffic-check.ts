/** Traffic requests of a template against the topology that they run in, as far as that can be said without building it. */
import { closeMatches } from '../document-faults.ts';
import type { JobTraffic } from '../job/job.ts';
import { type SchemaFault, schemaCheck } from '../schema-faults.ts';
import type { Topology } from '../topology.ts';
import { BadTraffic, trafficSpec } from '../traffic-request.ts';
import { parseDuration } from '../units.ts';
import { JobTrafficRequest } from './template.ts';

/** Fills in what has a default, in place. */
const checkShape = schemaCheck(JobTrafficRequest);

/** What is wrong with the requests; pointers begin with `/traffic`. */
export function trafficFaults(traffic: readonly unknown[], topology: Topology): SchemaFault[] {
  const ends = endsOf(topology);
  return traffic.flatMap((request, i): SchemaFault[] => {
    const at = `/traffic/${i}`;
    const shape = checkShape(request);
    if (shape.length > 0) return shape.map((fault) => ({ ...fault, pointer: at + fault.pointer }));
    return meaning(request as JobTraffic, ends).map((fault) => ({ ...fault, pointer: at + fault.pointer }));
  });
}

function meaning({ start, ...request }: JobTraffic, ends: Ends): SchemaFault[] {
  const faults: SchemaFault[] = [];
  const parsed = start === undefined ? null : parseDuration(start);
  if (parsed?.ok === false) faults.push({ pointer: '/start', detail: parsed.detail, expected: parsed.expected });
  try {
    trafficSpec(request);
  } catch (error) {
    if (!(error instanceof BadTraffic)) throw error;
    faults.push({ pointer: error.pointer, detail: error.detail, expected: error.expected });
  }
  for (const field of ['from', 'to'] as const) {
    const name = request[field];
    if (ends.has(name)) continue;
    const near = closeMatches(name, ends.names);
    const known = near.length > 0 ? near : ends.names.slice(0, 12);
    faults.push({
      pointer: `/${field}`,
      detail: `${JSON.stringify(name.slice(0, 80))} is not an end of this topology`,
      expected: `one of ${known.join(', ')}`,
    });
  }
  return faults;
}

interface Ends {
  readonly names: readonly string[];
  has(name: string): boolean;
}
/** Ends by name: NICs of guests, NICs of hosts, and what begins with a bridge's name: ports come and go, so those are looked up later. */
function endsOf({ hosts }: Topology): Ends {
  const several = hosts.length > 1;
  const names = new Set<string>();
  const bridges = new Set<string>();
  for (const host of hosts) {
    const local = [
      ...host.guests.flatMap((guest) => guest.nics.map((nic) => `${guest.name}/${nic.name}`)),
      ...host.nics.map((nic) => nic.name),
    ];
    for (const name of local) names.add(several ? `${host.name}/${name}` : name);
    // The host may be named where there is only one.
    if (!several) for (const name of local) names.add(`${host.name}/${name}`);
    for (const { name } of host.bridges)
      bridges.add(`${host.name}/${name}/`).add(several ? `${host.name}/${name}/` : `${name}/`);
  }
  const listed = [...names].filter((name) => several || name.split('/').length <= 2);
  return {
    names: listed,
    has: (name) => names.has(name) || [...bridges].some((bridge) => name.startsWith(bridge)),
  };
}
