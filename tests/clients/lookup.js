// As lookup.c, with Node: `lookup` is the C library in a thread, `resolve` is c-ares.
const dns = require('dns').promises;
const net = require('net');

const meaning = error => ['ENOTFOUND', 'ENODATA'].includes(error.code) ? 'not found'
  : ['EAI_AGAIN', 'ESERVFAIL', 'ETIMEOUT', 'ECONNREFUSED'].includes(error.code) ? 'try again' : error.code;

async function resolve(name) {
  const both = await Promise.allSettled([dns.resolve4(name), dns.resolve6(name)]);
  const found = both.flatMap(one => one.value ?? []);
  if (found.length > 0) return found;
  throw both.map(one => one.reason).find(error => meaning(error) !== 'not found') ?? both[0].reason;
}

async function one(kind, name) {
  try {
    if (net.isIP(name)) return (await dns.reverse(name)).join(',');
    const found = kind === 'resolve' ? await resolve(name) : (await dns.lookup(name, { all: true })).map(item => item.address);
    return found.sort().join(',');
  } catch (error) {
    return meaning(error);
  }
}

(async () => {
  const [kind, ...names] = process.argv.slice(2);
  for (const argument of names) {
    const [, times, name] = argument.match(/^(\d+)x(.+)$/) ?? [null, 1, argument];
    const results = new Set();
    for (let n = 0; n < times; n++) results.add(await one(kind, name));
    console.log(`${argument}\t${results.size === 1 ? [...results][0] : 'varies: ' + [...results].join(' or ')}`);
  }
})();
