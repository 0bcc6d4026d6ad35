/** Writes docs/flows: a page for each flow, made from a run. A test compares. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { costTable } from '../../src/engine/costs.ts';
import { EVENT_KINDS } from '../../src/engine/events.ts';
import {
  checkTimes,
  detail,
  type Flow,
  type FlowEvent,
  matchSteps,
  type Recording,
  record,
  reference,
} from '../flows/flow.ts';
import { COUNTED_FROM, FLOWS } from '../flows/flows.ts';
import { since } from '../flows/scopes.ts';
import { Ringside } from './ringside.ts';
import { ROOT } from './source.ts';
import { vu4Page } from './vu4-page.ts';

export const FOLDER = 'docs/flows';
const HEAD = '<!-- Made from a run by test/tools/flow-docs.ts: change the flow, not this page. -->';
const costs = costTable({});

const cell = (text: string): string => text.replaceAll('|', '\\|');
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => '---'), ...rows.map((row) => row.map(cell))];
  return lines.map((row) => `| ${row.join(' | ')} |\n`).join('');
}

/** `a` 500 + `b` 4500 */
function terms(takes: readonly string[]): string {
  return takes
    .map((term, i) => {
      const minus = term.startsWith('-');
      const bare = minus ? term.slice(1) : term;
      const name = /[a-z_]+/.exec(bare)?.[0] ?? '';
      const shown = bare.replace(name, `\`${name}\` ${costs[name]}`).replace(' * ', ' × ');
      return `${i === 0 ? '' : ' '}${minus ? '− ' : i === 0 ? '' : '+ '}${shown}`;
    })
    .join('');
}

function order(flow: Flow, recording: Recording): string {
  const events = matchSteps(flow, recording.events);
  checkTimes(flow, events);
  const start = events[0]!;
  const exitsBefore = (to: FlowEvent, from: FlowEvent): number =>
    recording.events.filter(
      (e) =>
        e.context === to.context &&
        /^kvm\.exit_.*_user$/.test(e.event) &&
        e.ns > from.ns &&
        e.ns <= to.ns &&
        !events.includes(e),
    ).length;
  const exits = events.map((e, i) =>
    i === 0 ? 0 : exitsBefore(e, events.slice(0, i).findLast((x) => x.context === e.context) ?? start),
  );
  const rows = events.map((e, i) => {
    const step = flow.steps[i]!;
    const probing = exits[i] === 0 ? '' : `${exits[i]} × \`vm_exit_userspace\` ${costs['vm_exit_userspace']}`;
    const takes = step.takes === undefined ? probing : `${terms(step.takes)}; since #${reference(flow, i) + 1}`;
    const more = detail(e);
    const what = step.text ?? EVENT_KINDS.find((kind) => kind.name === e.event)?.text ?? '';
    return [
      String(i + 1),
      String(e.ns - start.ns),
      e.context,
      e.place,
      `\`${e.event}\`${more === '' ? '' : ` ${more}`}`,
      what,
      takes,
    ];
  });
  return table(['#', 'ns', 'who', 'where', 'event', 'what', 'takes'], rows);
}

function page(flow: Flow, recording: Recording): string {
  const parts = [`# ${flow.id.toUpperCase()}: ${flow.title}`, HEAD, ...flow.about];
  parts.push('## In order', order(flow, recording).trimEnd());
  if (flow.counts.length > 0) {
    const counted = since(recording.events, COUNTED_FROM[flow.id] ?? 1);
    const rows = flow.counts.map((count) => [count.text, String(counted.filter(count.of).length)]);
    parts.push('## Counted', `Over ${flow.countedOver}:`, table(['what', 'times'], rows).trimEnd());
  }
  flow.journeys.forEach((frame, i) => {
    parts.push(`## The journey of frame ${frame}`, '```text\n' + recording.journeys[i]!.trimEnd() + '\n```');
  });
  if (flow.notes.length > 0) parts.push('## Notes', flow.notes.map((note) => `- ${note}`).join('\n'));
  const document = JSON.stringify(flow.document);
  const actions = flow.actions.map((action) =>
    'traffic' in action
      ? `\`POST …/traffic\` \`${JSON.stringify(action.traffic)}\``
      : 'patch' in action
        ? `\`PATCH …/${action.patch}\` \`${JSON.stringify(action.body)}\``
        : `\`POST …/frames\` with ${action.frames.frames.length} frames at ${action.frames.at}`,
  );
  parts.push('## The run', '```json\n' + document + '\n```');
  if (actions.length > 0) parts.push(`Then, one after the other: ${actions.join(', ')}.`);
  return parts.join('\n\n') + '\n';
}

/** Path to text, for all pages. */
export async function flowPages(): Promise<Map<string, string>> {
  const server = await Ringside.start();
  try {
    const pages = new Map<string, string>();
    for (const flow of FLOWS) pages.set(`${FOLDER}/${flow.id}.md`, page(flow, await record(server, flow)));
    pages.set(`${FOLDER}/vu-4.md`, await vu4Page(server, HEAD));
    const list = [...FLOWS.map(({ id, title }) => ({ id, title })), { id: 'vu-4', title: 'what DPDK gives' }]
      .sort((x, y) => x.id.localeCompare(y.id))
      .map(({ id, title }) => `- [${id.toUpperCase()}](${id}.md): ${title}`)
      .join('\n');
    const index = `# Flows\n\n${HEAD}\n\nThe flows of the articles "Deep dive into virtio-networking and vhost-net" (DD) and "A journey to the vhost-users realm" (VU), StratoVirt's (SV), and what QEMU does to a NIC while its guest runs (QM), as they happen in Ringside: every event of a run in order, with the costs that its time consists of. Each page is checked against a run by the tests. Times are virtual, in ns since the first line.\n\n${list}\n`;
    pages.set(`${FOLDER}/README.md`, index);
    return pages;
  } finally {
    await server.stop();
  }
}

if (import.meta.main) {
  const pages = await flowPages();
  for (const [path, text] of pages) {
    mkdirSync(join(ROOT, dirname(path)), { recursive: true });
    writeFileSync(join(ROOT, path), text);
  }
  console.log(`${FOLDER}: ${pages.size} pages`);
}
