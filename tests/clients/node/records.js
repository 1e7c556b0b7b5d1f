// What the records are, and how checks run: see family.py and records.py, which say it in Python.
'use strict'

const [address, family, baseText] = process.argv.slice(2)
const base = Number(baseText)

function record(partition, n) {
  const value = n % 16 === 14 ? null : Buffer.from(Array.from({ length: (n * 37) % 900 }, (_, i) => (n * 7 + i * 3 + partition) % 256))
  const headers = {}
  for (let i = 0; i < n % 3; i++) headers[`h${i}`] = Buffer.from(`${n}.${i}`)
  return { key: n % 8 === 7 ? null : Buffer.from(`key-${partition}-${n}`), value, headers, timestamp: String(base + 10 * n), partition }
}

function text(x) {
  const t = JSON.stringify(x, (_, v) => (v && v.type === 'Buffer' ? Buffer.from(v.data).toString('latin1') : v))
  return t && t.length > 300 ? t.slice(0, 300) + '...' : t
}

function same(what, expected, found) {
  if (JSON.stringify(expected) !== JSON.stringify(found)) throw new Error(`${what}: expected ${text(expected)}, found ${text(found)}`)
}

function checkMessage(partition, message, n) {
  const r = record(partition, n)
  same(`record ${n} of partition ${partition}`, { offset: String(n), key: r.key, value: r.value, headers: r.headers, timestamp: r.timestamp },
    { offset: message.offset, key: message.key, value: message.value, headers: message.headers || {}, timestamp: message.timestamp })
}

const sleep = ms => new Promise(done => setTimeout(done, ms))

async function eventually(what, check, seconds = 40) {
  const end = Date.now() + seconds * 1000
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${typeof what === 'function' ? what() : what}`)
    await sleep(50)
  }
}

// Must throw an error of that type.
async function fails(type, call) {
  try {
    await call()
  } catch (e) {
    for (let x = e; x; x = x.cause) if (x.type === type || (x.errors || []).some(y => y.type === type) ||
      (x.groups || []).some(g => g.error && g.error.type === type)) return
    throw new Error(`expected ${type}, found ${e.type || e.name}: ${e.message}`)
  }
  throw new Error(`expected ${type}, and it succeeded`)
}

// Runs all checks side by side and prints a line for each.
async function run(checks) {
  await Promise.all(Object.entries(checks).map(async ([name, check]) => {
    const began = Date.now()
    try {
      await check()
      console.log(`ok ${name}\n   (${((Date.now() - began) / 1000).toFixed(1)} s)`)
    } catch (e) {
      console.log(`${e.stack}\nnot ok ${name}: ${e.name}: ${e.message.replace(/\s+/g, ' ')}`)
    }
  }))
}

module.exports = { address, family, base, record, same, checkMessage, sleep, eventually, fails, run }
