/**
 * Ways out of a panel into the API, with what the reader clicked on: a series' labels in a chart, a row's in a table.
 */
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';

/** Title, and path with `{label}` for a label of what was clicked on. */
export type Link = readonly [title: string, path: string];

const OF_TOPOLOGY = '/v1/topologies/{topology}';
export const TOPOLOGY: Link = ['Topology', OF_TOPOLOGY];
export const RUNS: Link = ['Traffic runs', `${OF_TOPOLOGY}/traffic`];
export const JOURNEYS: Link = ['Journeys of the frames', `${OF_TOPOLOGY}/journeys`];
export const CAPTURE: Link = ['Capture of all hops (pcapng)', `${OF_TOPOLOGY}/capture.pcapng?view=journey`];
export const GUEST: Link = ['Guest', `${OF_TOPOLOGY}/guests/{guest}`];
export const NIC: Link = ['NIC', `${OF_TOPOLOGY}/guests/{guest}/nics/{nic}`];
export const QUEUE: Link = ['Queue, as it stands in guest memory', `${NIC[1]}/queues/{queue}`];
export const FLOWS: Link = ['Flows', `${OF_TOPOLOGY}/bridges/{bridge}/flows`];
export const CACHES: Link = ['Caches', `${OF_TOPOLOGY}/bridges/{bridge}/caches`];
export const FDB: Link = ['Learned MAC addresses', `${OF_TOPOLOGY}/bridges/{bridge}/fdb`];
export const PORTS: Link = ['Ports', `${OF_TOPOLOGY}/bridges/{bridge}/ports`];
/** The newest events that a filter lets through (docs/filters.md). */
export const events = (title: string, filter: string): Link => [title, `${OF_TOPOLOGY}/events?${filter}`];
export const DROPPED = events('Where frames were dropped', 'role=dropped');

function toDataLinks(links: readonly Link[], label: (name: string) => string): dashboard.DashboardLinkBuilder[] {
  return links.map(([title, path]) => {
    const url = path.replace(/\{(\w+)\}/g, (_, name: string) => label(name));
    return new dashboard.DashboardLinkBuilder(title).url(`\${ringside}${url}`).targetBlank(true);
  });
}
export const ofSeries = (links: readonly Link[]): dashboard.DashboardLinkBuilder[] =>
  toDataLinks(links, (name) => `\${__field.labels.${name}}`);
export const ofRow = (links: readonly Link[]): dashboard.DashboardLinkBuilder[] =>
  toDataLinks(links, (name) => `\${__data.fields.${name}}`);
