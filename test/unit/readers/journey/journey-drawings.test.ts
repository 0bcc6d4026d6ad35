/** Drawings of a journey: every lane, step and hand-over is there, names cannot break out, and the syntax is strict. */
import { expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { findJourney, type Journey } from '../../../../src/readers/journey/journey.ts';
import { journeyMermaid } from '../../../../src/readers/journey/journey-mermaid.ts';
import { journeySvg } from '../../../../src/readers/journey/journey-svg.ts';
import { handOver, visitsOf } from '../../../../src/readers/journey/journey-visits.ts';
import { CONTEXTS, FakeWorld, PLACES } from '../fake-world.ts';
import { floodedFrame, vhostNetFrame } from '../journeys.ts';

function journeyOf(w: FakeWorld, frame: number): Journey {
  const search = findJourney(w.reader, frame);
  for (;;) {
    const { done, value } = search.next();
    if (!done) continue;
    if (value.kind !== 'found') throw new Error(value.kind);
    return value.journey;
  }
}
function delivered(): Journey {
  const w = new FakeWorld();
  const f = vhostNetFrame(w, 1_000_000);
  w.publish();
  return journeyOf(w, f);
}
function dropped(): Journey {
  const w = new FakeWorld();
  const { clone } = floodedFrame(w, 0);
  w.publish();
  return journeyOf(w, clone);
}

/** A tag or a text at a time; throws on anything that XML 1.0 does not allow. Returns the names and texts in order. */
function strictXml(document: string): { elements: string[]; texts: string[] } {
  const open: string[] = [];
  const elements: string[] = [];
  const texts: string[] = [];
  const token =
    /<([a-z]+)((?: [a-zA-Z][a-zA-Z0-9:-]*="[^"<&]*(?:&(?:amp|lt|gt|quot|#39);[^"<&]*)*")*) ?(\/?)>|<\/([a-z]+)>|((?:[^<&>]|&(?:amp|lt|gt|quot|#39);)+)/gy;
  let at = 0;
  while (at < document.trimEnd().length) {
    token.lastIndex = at;
    const match = token.exec(document);
    if (match === null) throw new Error(`not XML at ${at}: ${document.slice(at, at + 60)}`);
    const [whole, name, attributes = '', empty, end, words] = match;
    if (name !== undefined) {
      const names = [...attributes.matchAll(/ ([a-zA-Z][a-zA-Z0-9:-]*)=/g)].map((m) => m[1]);
      if (new Set(names).size !== names.length) throw new Error(`an attribute twice: ${whole}`);
      elements.push(name);
      if (empty === '') open.push(name);
    } else if (end !== undefined) {
      if (open.pop() !== end) throw new Error(`</${end}> closes nothing`);
    } else texts.push(words!);
    at += whole.length;
  }
  if (open.length > 0) throw new Error(`not closed: ${open.join(', ')}`);
  return { elements, texts: texts.filter((t) => t.trim() !== '') };
}

test('visits: who had the frame, what brought it there, and times that add up', () => {
  const j = delivered();
  const visits = visitsOf(j);
  expect(visits.map((v) => [v.context, v.costNs, v.waitedNs, v.cameBy])).toEqual([
    ['a/vcpu0', 1200, 0, null],
    ['vhost-1201', 500, 1900, 'kick, exit to userspace'],
    ['vhost-1202', 300, 1400, 'tap queue'],
    ['b/vcpu0', 300, 2700, 'interrupt, irqfd'],
  ]);
  const sum = visits.reduce((ns, v) => ns + v.costNs + v.waitedNs, 0);
  expect(sum).toBe(j.totals.latencyNs);
  expect(j.lanes.map((l) => [l.context, l.kind, l.core, l.visits, l.busyNs, l.waitedNs])).toEqual([
    ['a/vcpu0', 'vcpu', 0, 1, 1200, 0],
    ['vhost-1201', 'vhost', 1, 1, 500, 1900],
    ['vhost-1202', 'vhost', 2, 1, 300, 1400],
    ['b/vcpu0', 'vcpu', 3, 1, 300, 2700],
  ]);
});

test('a hand-over is told from what was recorded, not from the name of a back-end', () => {
  const [last] = delivered().hops;
  const by = (event: string, ...charged: string[]): string => handOver({ ...last!, event, charged });
  expect(by('virtq.avail', 'virtq.kick', 'kvm.exit_ept_misconfig_kernel', 'eventfd.signal')).toBe('kick, ioeventfd');
  expect(by('virtq.avail', 'virtq.kick_suppressed')).toBe('avail ring, no kick wanted');
  expect(by('virtq.avail')).toBe('avail ring');
  expect(by('virtq.used', 'virtq.interrupt', 'kvm.signal_msi')).toBe('interrupt, KVM_SIGNAL_MSI');
  expect(by('virtq.used', 'virtq.interrupt_suppressed')).toBe('used ring, no interrupt wanted');
});

test('SVG: every step, cost, wait, copy and exit, in lanes', () => {
  const j = delivered();
  const { elements, texts } = strictXml(journeySvg(j));
  expect(elements.slice(0, 4)).toEqual(['svg', 'title', 'desc', 'style']);
  expect(elements.filter((e) => e === 'script' || e === 'image' || e === 'foreignObject')).toEqual([]);
  for (const hop of j.hops.filter((h) => h.onPath)) {
    expect(texts).toContain(hop.event);
    expect(texts).toContain(`+${String(hop.sinceStartNs).replace(/\B(?=(\d{3})+$)/g, ' ')} ns`);
  }
  for (const words of [
    'waits 1 900 ns',
    'copies 60 bytes',
    'VM exit ept_misconfig_kernel',
    'interrupt, irqfd',
    'tap queue',
  ])
    expect(texts).toContain(words);
  for (const lane of j.lanes) expect(texts).toContain(lane.context);
  // four lanes' heads, four visits, the paper
  expect(elements.filter((e) => e === 'rect')).toHaveLength(9);
});

test('SVG: a drop is marked where it happened', () => {
  const svg = journeySvg(dropped());
  expect(strictXml(svg).texts).toContain('✕ tap.queue_full');
  expect(svg).toContain('<rect class="lost"');
});

test('Mermaid: strict grammar, all participants, a lost frame ends in a cross', () => {
  const j = delivered();
  const text = journeyMermaid(j);
  checkMermaid(text);
  expect(text).toContain('c0->>c1: kick, exit to userspace, waits 1 900 ns');
  for (const hop of j.hops.filter((h) => h.onPath)) expect(text).toContain(`${hop.event} at ${hop.place}`);
  const lost = journeyMermaid(dropped());
  checkMermaid(lost);
  expect(lost).toMatch(/c0-xc0: dropped:tap\.queue_full/);
});

/** The part of Mermaid's sequence grammar that is used; participants are declared before they are named. */
function checkMermaid(text: string): void {
  const lines = text.trimEnd().split('\n');
  expect(lines.shift()).toBe('sequenceDiagram');
  const known = new Set<string>();
  const label = /(?:[^;#<>]|#\d+;|<br\/>)+/.source;
  for (const line of lines) {
    const participant = new RegExp(`^ {4}participant (c\\d+) as ${label}$`).exec(line);
    const message = new RegExp(`^ {4}(c\\d+)(?:->>|-x)(c\\d+): ${label}$`).exec(line);
    const note = new RegExp(`^ {4}Note over (c\\d+): ${label}$`).exec(line);
    const named = [...(message ?? note ?? []).slice(1)];
    if (participant !== null) known.add(participant[1]!);
    else if (named.length > 0) for (const id of named) expect(known).toContain(id);
    else expect(line).toMatch(/^ {4}acc(Title|Descr): [^;#<>]+$/);
  }
}

test('names cannot break out of a drawing', () => {
  const evil = '<script>"&\'\u0001;#\n%%{x}]]>';
  const w = new FakeWorld({
    places: PLACES.map((p) => ({ ...p, name: `${p.name}${evil}` })),
    contexts: CONTEXTS.map((c) => ({ ...c, name: `${c.name}${evil}` })),
  });
  const f = vhostNetFrame(w, 0);
  w.event(0, 9900, E.PACKET_COPY, 4, f, 60, 0);
  w.publish();
  const j = journeyOf(w, f);
  const svg = journeySvg(j);
  expect(strictXml(svg).elements).not.toContain('script');
  expect(svg).not.toContain('\u0001');
  checkMermaid(journeyMermaid(j));
});

test('a frame with no step of its own yet is drawn all the same', () => {
  const w = new FakeWorld();
  const f = w.newFrame();
  w.event(0, 5, E.PACKET_BORN, 1, f, 60);
  w.publish();
  const j = journeyOf(w, f);
  expect(strictXml(journeySvg(j)).texts.join(' ')).toContain('frame 1: in flight');
  checkMermaid(journeyMermaid(j));
});
