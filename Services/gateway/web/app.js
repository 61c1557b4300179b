// The door of the page: the first operator is made through the claim link, everybody else signs in.
const claimToken = location.pathname === '/claim' ? location.hash.slice(1) : ''
const form = document.getElementById('entry')
const message = document.getElementById('entry-message')
if (claimToken) document.getElementById('entry-title').textContent = 'Create the first operator'

async function post(path, body) {
  const answer = await fetch(path, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  })
  const content = await answer.json()
  if (answer.ok) return content
  const details = (content.errors ?? []).map((error) => error.message)
  throw new Error([content.detail, ...details].join(' '))
}

form.addEventListener('submit', async (event) => {
  event.preventDefault()
  const { email, password } = Object.fromEntries(new FormData(form))
  message.textContent = ''
  try {
    if (claimToken) await post('/api/auth/claim', { token: claimToken, email, password })
    const tokens = await post('/api/auth/login', { email, password })
    const me = await fetch('/api/auth/me', { headers: { Authorization: `Bearer ${tokens.access_token}` } })
    message.textContent = `Signed in as ${(await me.json()).email}`
    // The link's token is used up; it need not stay in the history.
    if (claimToken) history.replaceState(null, '', '/')
  } catch (error) {
    message.textContent = error.message
  }
})

async function showHealth() {
  const list = document.getElementById('health')
  try {
    const { services } = await (await fetch('/api/health')).json()
    list.replaceChildren(...Object.entries(services).map(([name, { status }]) => {
      const item = document.createElement('li')
      item.textContent = `${name}: ${status}`
      if (status !== 'healthy') item.className = 'down'
      return item
    }))
  } catch {
    list.textContent = 'The gateway does not answer.'
  }
}
showHealth()
