// The last net: a part of the page that fails (or could not be loaded after an update) becomes a
// message with a way on.
import { Component, type ReactNode } from 'react'
import i18next from 'i18next'
import { Button } from '../ui/Button'
import { MessagePage } from './MessagePage'

export class ErrorBoundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false }

  static getDerivedStateFromError() {
    return { failed: true }
  }

  override render() {
    if (!this.state.failed) return this.props.children
    return (
      <MessagePage title={i18next.t('error.pageTitle')} heading={i18next.t('error.pageHeading')} text={i18next.t('error.pageText')}>
        <Button kind="primary" onClick={() => location.reload()}>
          {i18next.t('error.reload')}
        </Button>
      </MessagePage>
    )
  }
}
