// Starts the client: languages first (bundled), then the page, then what the municipality configured.
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import './styles/base.css'
import { App } from './app/App'
import { loadBrand } from './brand/brand'
import { startLanguages } from './i18n'

startLanguages()
void loadBrand()

const root = document.getElementById('app')
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  )
}
